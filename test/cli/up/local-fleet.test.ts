import assert from 'node:assert/strict'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { readEnv } from '../../../src/base/env.ts'
import { exchange } from '../../../src/cli/exchange.ts'
import { type Child, type Exit, temporaryFolder } from '../../../src/cli/up/child.ts'
import { DataFolder } from '../../../src/cli/up/data.ts'
import type { FrontPlan } from '../../../src/cli/up/front.ts'
import { InstanceGroup } from '../../../src/cli/up/group.ts'
import { LocalInstance } from '../../../src/cli/up/instances.ts'
import { LocalFleet, type LocalFleetOptions } from '../../../src/cli/up/local-fleet.ts'
import { nodeFront } from '../../../src/cli/up/node.ts'
import { startListening } from '../../edge/listening.ts'
import { isAlive } from '../../helpers/alive.ts'
import { mockTimers } from '../../helpers/clock.ts'
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
    const data = new DataFolder(temporaryFolder('data'))
    const exclude = new Set<'redis'>()
    const more = { exclude, instances: 1, logLevel: 'debug', onOutput: () => {}, data } as const
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
    const isFree: boolean[] = []
    t.mock.method(data, 'release', () => void isFree.push(!isAlive(redis?.pid as number)))
    const drained = local.drain()
    await until(isStopping, { what: 'the drain' })
    assert.ok(isAlive(redis?.pid as number), 'Redis serves until the last instance has stopped')
    process.kill(instances[0]?.pid as number, 'SIGKILL')
    await drained
    assert.deepEqual(isFree, [true], 'another run may use the folder when Redis has stopped')
  })

  /** A fleet without processes: what its front does, and how long its instances may take to end. */
  async function withoutProcesses(
    t: TestContext,
    more: Partial<LocalFleetOptions> = {},
    env: Record<string, string> = {},
  ) {
    const stops: number[] = []
    let plan: FrontPlan | undefined
    t.mock.method(LocalInstance.prototype, 'start', async () => {})
    t.mock.method(LocalInstance.prototype, 'stop', async (withinMs: number) => {
      stops.push(withinMs)
      return true
    })
    const front = { exit: Promise.withResolvers<Exit>(), restarts: 0, isBroken: true }
    const server = {
      ...{ port: 1, pid: 1, folder: '', program: '', kill: async () => {}, stop: async () => {} },
      get child() {
        return { exit: front.exit.promise, stdout: '', stderr: '' } as Child
      },
      async restart() {
        front.restarts++
        if (front.isBroken) throw new Error('no memory')
        front.exit = Promise.withResolvers()
      },
    }
    t.mock.method(nodeFront, 'start', async (given: FrontPlan) => {
      plan = given
      return server
    })
    const { options, ports, events } = await fleet(t, { instances: 1, ...more }, env)
    const local = new LocalFleet(options)
    t.after(() => local.drain())
    await local.start(false)
    return { local, front, ports, events, plan, stops }
  }

  /** Lets time pass on the mocked clock. */
  async function pass(t: TestContext, ms: number): Promise<void> {
    t.mock.timers.tick(ms)
    for (let i = 0; i < 3; i++) await new Promise(setImmediate)
  }

  it('gives its instances SHUTDOWN_TIMEOUT to end, 30 seconds by default', async (t) => {
    for (const [given, ms] of [
      [undefined, 30_000],
      ['7000', 7_000],
    ] as const) {
      const env: Record<string, string> = given === undefined ? {} : { SHUTDOWN_TIMEOUT: given }
      const { local, stops } = await withoutProcesses(t, {}, env)
      await local.drain()
      assert.deepEqual(stops, [ms])
      t.mock.restoreAll()
    }
  })

  it('names the ports for operators to its front, which are those of the app unless there are others', async (t) => {
    const watch = [temporaryFolder('watched')]
    const { plan, ports } = await withoutProcesses(t, { watch }, { FLEET_ADMIN_PORT: '9001' })
    const first = Number(ports.FLEET_BASE_PORT)
    assert.deepEqual(
      [plan?.instances, plan?.operators],
      [
        [first, first + 1],
        [9_001, 9_002],
      ],
    )
    t.mock.restoreAll()
    const { plan: one } = await withoutProcesses(t)
    assert.ok(one)
    assert.deepEqual(one.operators, one.instances)
  })

  it('keeps a single instance for its drain delay and one second more when it reloads', async (t) => {
    const groups: InstanceGroup[] = []
    const { start } = InstanceGroup.prototype
    t.mock.method(InstanceGroup.prototype, 'start', function started(this: InstanceGroup) {
      groups.push(this)
      return start.call(this)
    })
    const { stops } = await withoutProcesses(t, { watch: [temporaryFolder('watched')] }, { DRAIN_DELAY: '1500' })
    mockTimers(t)
    groups[0]?.reload('app.js')
    const counts: number[] = []
    for (const ms of [0, 2_499, 1, 2_500]) {
      await pass(t, ms)
      counts.push(stops.length)
    }
    assert.deepEqual(counts, [0, 0, 1, 2], 'the second one frees the spare port again')
  })

  it('starts its PostgreSQL again when that has ended', async (t) => {
    const folder = temporaryFolder('programs')
    chmodSync(folder, 0o755)
    const starts = join(folder, 'starts')
    writeFileSync(starts, '')
    // PostgreSQL does not run as root.
    chmodSync(starts, 0o666)
    for (const [name, script] of [
      ['initdb', '/bin/mkdir "$2"'],
      ['postgres', `echo "$@" >> ${starts}; exec /bin/sleep 600`],
    ] as const)
      writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    const { PATH } = process.env
    process.env.PATH = `${folder}:${PATH}`
    t.after(() => {
      process.env.PATH = PATH
    })
    const starting = withoutProcesses(t, { include: new Set(['postgres'] as const) })
    const port = await until(() => Number(/ -p (\d+) /.exec(readFileSync(starts, 'utf8'))?.[1]), { what: 'its start' })
    const responds = createTcpServer((socket) => socket.on('error', () => {}).once('data', () => socket.end('R')))
    responds.listen(port, '127.0.0.1')
    t.after(() => responds.close())
    const { local, events } = await starting
    const pid = (): number => local.report().servers[0]?.pid ?? assert.fail('it has no server')
    const before = pid()
    process.kill(before, 'SIGKILL')
    await until(() => pid() !== before, { what: 'its return' })
    assert.ok(isAlive(pid()))
    const says = `PostgreSQL on port ${port} ended with SIGKILL; it is started again. `
    assert.equal(events.filter((line) => line.startsWith(says)).length, 1)
  })

  it('restarts its front after a pause that doubles up to five seconds, and not while it drains', async (t) => {
    const { local, front } = await withoutProcesses(t)
    mockTimers(t)
    const end = async (): Promise<void> => {
      front.exit.resolve({ code: 1, signal: null })
      await pass(t, 0)
    }
    await end()
    for (const pause of [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]) {
      const before = front.restarts
      await pass(t, pause - 1)
      assert.equal(front.restarts, before, `${pause}`)
      await pass(t, 1)
      assert.equal(front.restarts, before + 1, `${pause}`)
    }
    front.isBroken = false
    await pass(t, 5_000)
    const restarts = front.restarts
    await end()
    await pass(t, 250)
    assert.equal(front.restarts, restarts + 1, 'it began again')
    await end()
    await local.drain()
    await pass(t, 5_000)
    assert.equal(front.restarts, restarts + 1)
  })

  it('reloads for a change of what it watches, and not of what its servers keep there', async (t) => {
    const folder = temporaryFolder('watched')
    const data = new DataFolder(join(folder, 'kept'))
    data.folder()
    const changes: string[] = []
    t.mock.method(InstanceGroup.prototype, 'reload', (change: string) => void changes.push(change))
    await withoutProcesses(t, { watch: [folder], data })
    writeFileSync(join(folder, 'a.js'), 'x')
    writeFileSync(join(data.path, 'dump'), 'x')
    await until(() => changes.length > 0)
    assert.match(changes.join(), /a\.js$/, 'the last one would count')
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
