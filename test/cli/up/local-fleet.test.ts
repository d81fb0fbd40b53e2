import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { describe, it, type TestContext } from 'node:test'
import { readEnv } from '../../../src/base/env.ts'
import { exchange } from '../../../src/cli/exchange.ts'
import { LocalFleet, type LocalFleetOptions } from '../../../src/cli/up/local-fleet.ts'
import { startListening } from '../../edge/listening.ts'
import { isAlive } from '../../helpers/alive.ts'
import { freePort } from '../../helpers/free-port.ts'
import { until } from '../../helpers/until.ts'
import { program } from './program.ts'

describe('a fleet of fleet up', () => {
  async function fleet(t: TestContext, more: Partial<LocalFleetOptions> = {}, env: Record<string, string> = {}) {
    const app = program(t)
    const events: string[] = []
    process.env.FOLDER = app.folder
    const ports = { FLEET_PORT: `${await freePort()}`, FLEET_BASE_PORT: `${await freePort(3)}` }
    const options: LocalFleetOptions = {
      ...{
        file: app.file,
        instances: 3,
        front: 'node',
        env: readEnv({ ...ports, ...env }),
        migrate: false,
        seed: false,
      },
      ...{
        include: new Set<'redis'>(),
        exclude: new Set<'redis'>(['redis']),
        onEvent: (line: string) => void events.push(line),
      },
      ...more,
    }
    return { ...app, options, ports, events }
  }

  it('has one instance without Redis, behind its front, and gives it secrets of its own', async (t) => {
    const { options, ports, starts, events, obey, isStopping } = await fleet(t)
    const local = new LocalFleet(options)
    t.after(() => local.drain())
    assert.deepEqual(await local.missing(), [])
    assert.throws(() => local.report(), /has not started/)
    await local.start(false)
    const { front, instances, state, servers, adminToken, dashboard, notes } = local.report()
    assert.deepEqual([front.kind, front.url], ['fleet balance', `http://127.0.0.1:${ports.FLEET_PORT}`])
    assert.deepEqual(
      instances.map(({ url }) => url),
      [`http://127.0.0.1:${ports.FLEET_BASE_PORT}`],
    )
    assert.deepEqual(state, {
      sessions: 'memory of the only instance',
      database: 'nothing: the app does not seem to use PostgreSQL (see --with)',
    })
    assert.deepEqual([servers, notes], [[], ['without Redis, one instance runs with its state in memory']])
    assert.match(dashboard, new RegExp(`^${instances[0]?.url}/fleet#code=\\S{20,}$`))
    const [env] = starts()
    assert.equal(env?.FLEET_ADMIN_TOKEN, adminToken)
    const { FLEET_PUBLIC_PROBES, TRUST_PROXY, DRAIN_DELAY, LOG_LEVEL, SESSION_SECRET = '', JWT_SECRET = '' } = env ?? {}
    assert.deepEqual([FLEET_PUBLIC_PROBES, TRUST_PROXY, DRAIN_DELAY, LOG_LEVEL], ['1', '127.0.0.1', '1500', 'info'])
    assert.equal(new Set([SESSION_SECRET, JWT_SECRET, adminToken]).size, 3)
    for (const secret of [SESSION_SECRET, JWT_SECRET, adminToken]) assert.match(secret, /^[\w-]{43}$/)
    assert.equal((await fetch(`${front.url}/`)).status, 200)
    assert.ok(events.some((line) => line.startsWith('starting 1 × ')))

    process.kill(front.pid, 'SIGKILL')
    await until(() => events.some((line) => line.startsWith('the front ended with SIGKILL; it is started again.')), {
      what: 'its end',
    })
    await until(async () => (await fetch(`${front.url}/`).catch(() => undefined))?.status === 200, {
      what: 'its return',
    })
    const { pid } = local.report().front
    assert.notEqual(pid, front.pid)
    obey('hang')
    const drained = local.drain()
    await until(isStopping, { what: 'the drain' })
    assert.equal((await fetch(`${front.url}/`)).status, 200, 'the front serves until the last instance has stopped')
    for (const { pid } of instances) process.kill(pid as number, 'SIGKILL')
    assert.equal(await drained, false)
    assert.deepEqual([pid, ...instances.map(({ pid }) => pid as number)].filter(isAlive), [])
  })

  it('keeps the values of the environment, and reports an instance that does not exit with 0', async (t) => {
    const given = {
      FLEET_ADMIN_TOKEN: 'a token of at least thirty-two bytes',
      ...{ SESSION_SECRET: `${'a'.repeat(40)},${'b'.repeat(40)}`, JWT_SECRET: 'c'.repeat(40) },
      ...{ TRUST_PROXY: 'loopback', DRAIN_DELAY: '7', LOG_LEVEL: 'error' },
    }
    const { options, starts } = await fleet(t, {}, given)
    process.env.CODE = '4'
    t.after(() => void delete process.env.CODE)
    const local = new LocalFleet(options)
    t.after(() => local.drain())
    assert.equal(local.adminToken, given.FLEET_ADMIN_TOKEN)
    await local.start(false)
    for (const [name, value] of Object.entries(given)) assert.equal(starts()[0]?.[name], value, name)
    assert.equal(await local.drain(), false)
  })

  it('listens on this machine only, stops its servers last, and makes no secret for tokens of other keys', async (t) => {
    const env = { JWT_KEYS: `one:${'k'.repeat(40)}`, FLEET_ADMIN_TOKEN: 'a token of at least thirty-two bytes' }
    const more = { exclude: new Set<'redis'>(), instances: 1, logLevel: 'debug', onOutput: () => {} } as const
    const { options, ports, starts, obey, isStopping } = await fleet(t, more, env)
    const local = new LocalFleet(options)
    t.after(() => local.drain())
    await local.start(false)
    const [started] = starts()
    assert.deepEqual([started?.JWT_SECRET, started?.LOG_LEVEL], [undefined, 'debug'])
    const { servers, state, instances } = local.report()
    assert.match(state.sessions, /^Redis on port \d+$/)
    const [redis] = servers
    for (const port of [Number(ports.FLEET_PORT), Number(ports.FLEET_BASE_PORT), redis?.port as number]) {
      const reach = async (host: string) => (await exchange({ host, port, timeoutMs: 10_000 })).error
      assert.equal(await reach('127.0.0.1'), undefined)
      if (process.platform === 'linux') assert.equal(await reach('127.0.0.2'), 'ECONNREFUSED')
    }
    obey('hang')
    const drained = local.drain()
    await until(isStopping, { what: 'the drain' })
    assert.ok(isAlive(redis?.pid as number), 'Redis serves until the last instance has stopped')
    process.kill(instances[0]?.pid as number, 'SIGKILL')
    await drained
    assert.equal(isAlive(redis?.pid as number), false)
  })

  it('rejects ports that are taken, shared or too high, before it starts anything', async (t) => {
    const port = await freePort()
    for (const [env, message] of [
      [
        { FLEET_PORT: `${port}`, FLEET_BASE_PORT: `${port}` },
        new RegExp(`${port}, which an instance needs.*FLEET_BASE_PORT=5001`),
      ],
      [{ FLEET_BASE_PORT: '65534' }, /65536, which an instance needs/],
      [{ FLEET_PORT: `${await startListening(createServer())}` }, /which the front needs.*FLEET_PORT=9090/],
    ] as const) {
      const { options, starts } = await fleet(t, {}, env)
      const local = new LocalFleet(options)
      await assert.rejects(local.start(false), { code: 'FLEET_ERR_PORT_TAKEN', message })
      assert.equal(await local.drain(), true)
      assert.deepEqual(starts(), [])
    }
  })
})
