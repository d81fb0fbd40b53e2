import assert from 'node:assert/strict'
import { chmodSync, readdirSync } from 'node:fs'
import { basename } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import type { FleetReport } from '../../src/cli/up/local-fleet.ts'
import { isPortFree } from '../../src/cli/up/port.ts'
import { isAlive } from '../helpers/alive.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { startLoad } from '../helpers/load.ts'
import { startPostgres } from '../helpers/postgres.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { patientEnv } from '../state/redis/patience.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const program = fileURLToPath(new URL('fixtures/app.ts', import.meta.url))

interface Up {
  process: App
  report: FleetReport
  /** Its processes at the start. */
  pids: number[]
}

async function up(args: string[], env: Record<string, string | number> = {}): Promise<Up> {
  const ports = { FLEET_PORT: await freePort(), FLEET_BASE_PORT: await freePort(3) }
  const process = forkApp(main, {
    args: ['up', ...args, '--install', '--json'],
    env: { ...ports, ...patientEnv, ...env },
  })
  const [line] = await process.waitFor(/^\{.*\}\n/m, 120_000)
  const report: FleetReport = JSON.parse(line)
  const pids = [report.front, ...report.instances, ...report.servers].map(({ pid }) => pid as number)
  return { process, report, pids: [process.pid, ...pids] }
}

/** A temporary folder for one fleet, accessible to PostgreSQL's user. */
function ownFolder(): string {
  const folder = temporaryFolder('up')
  chmodSync(folder, 0o755)
  return folder
}

const countOf = (text: string, pattern: RegExp): number => text.match(pattern)?.length ?? 0

/** Replaces every instance, each when the previous one is back. */
async function endEach({ process, report }: Up, signal: NodeJS.Signals, which = report.instances): Promise<void> {
  for (const { id, pid } of which) {
    const ready = countOf(process.stderr, /is ready, process/g)
    globalThis.process.kill(pid as number, signal)
    await process.waitFor(new RegExp(`${id} ended`))
    await until(() => countOf(process.stderr, /is ready, process/g) > ready, { what: 'its successor' })
  }
}

async function down({ process, report, pids }: Up, signal: NodeJS.Signals): Promise<void> {
  await process.kill(signal)
  assert.deepEqual(process.ended, { code: 0, signal: null }, process.stderr)
  assert.deepEqual(pids.filter(isAlive), [])
  const ports = [report.front.url, ...report.instances.map(({ url }) => url)].map((url) => Number(new URL(url).port))
  for (const port of ports) assert.ok(await isPortFree(port), `port ${port} is free again`)
}

describe('fleet up', { concurrency: 2 }, async () => {
  const redis = await startRedis()
  const postgres = await startPostgres()
  const named = { REDIS_URL: redis.url, DATABASE_URL: postgres.url }
  // All load comes from one address. A log line per request would be read by nobody.
  const loaded = { LB_RATE: '1000000', LOG_LEVEL: 'warn' }

  for (const front of ['nginx', 'haproxy', 'node'] as const) {
    test(`loses no request through ${front}`, async () => {
      const fleet = await up([program, '--front', front], { ...named, ...loaded })
      assert.equal(fleet.report.servers.length, 0)
      const { url } = fleet.report.front

      // Each takes a while, so that every instance always has some in flight.
      const reads = startLoad(url, { requests: [{ method: 'GET', path: '/?ms=20' }] })
      await until(() => fleet.report.instances.every(({ id }) => reads.byInstance.has(id)), {
        what: 'responses of all',
      })
      await endEach(fleet, 'SIGKILL', fleet.report.instances.slice(0, 1))
      await reads.stop()
      assert.deepEqual(reads.failures, [])
      const [killed, witness] = fleet.report.instances
      const asOperator = { headers: { authorization: `Bearer ${fleet.report.adminToken}` } }
      await until(
        async () => {
          const { departed } = await (await fetch(`${witness?.url}/fleet/state`, asOperator)).json()
          return departed.some((each: Record<string, unknown>) => each.id === killed?.id && each.detail === 'SIGKILL')
        },
        { what: 'the killed instance on the dashboard' },
      )

      const mixed = startLoad(url, {
        requests: [
          { method: 'GET', path: '/?ms=20' },
          { method: 'POST', path: '/echo?ms=20', body: { a: 1 } },
        ],
      })
      await endEach(fleet, 'SIGTERM', fleet.report.instances.slice(1))
      await mixed.stop()
      assert.deepEqual(mixed.failures, [])

      const seen = await fetch(`${url}/seen`, { headers: { 'x-forwarded-for': '6.6.6.6', 'x-fleet-retry': '0' } })
      const headers = (await seen.json()) as Record<string, string>
      assert.equal(headers['x-forwarded-for'], '127.0.0.1')
      assert.equal(headers['x-forwarded-proto'], 'http')
      assert.notEqual(headers['x-fleet-retry'], '0')
      const withToken = { headers: { authorization: `Bearer ${fleet.report.adminToken}` } }
      for (const path of ['/metrics', '/fleet', '/health/detailed', '/api/v1/load-balancer/instances', '/%6Detrics']) {
        assert.equal((await fetch(url + path, withToken)).status, 404, path)
      }

      globalThis.process.kill(fleet.report.front.pid, 'SIGKILL')
      await fleet.process.waitFor(/the front ended with SIGKILL/)
      await until(async () => (await fetch(url)).ok, { what: 'a new front' })
      await down(fleet, 'SIGTERM')
    })
  }

  test('runs the reference application with its own servers: one login, three instances, no process left', async () => {
    const fleet = await up(['--logs'])
    assert.equal(fleet.report.servers.length, 2)
    assert.ok(fleet.pids.every(isAlive))
    assert.match(fleet.process.stderr, /^app-2-\w+ \| \{"level":30/m)

    const { url } = fleet.report.front
    const login = await fetch(`${url}/api/v1/auth/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email: 'test@example.com', password: 'password' }),
    })
    assert.equal(login.status, 200)
    const cookie = login.headers.get('set-cookie')?.split(';')[0] ?? ''
    const seen = new Set<string>()
    const visit = async (): Promise<void> => {
      const me = await fetch(`${url}/api/v1/me`, { headers: { cookie } })
      const { user } = (await me.json()) as { user: { email: string } }
      assert.equal(user.email, 'test@example.com')
      seen.add(me.headers.get('x-instance-id') ?? '')
    }
    for (let i = 0; i < 30; i++) await visit()
    // On a busy machine the load balancer may take an instance out of rotation for a moment.
    const each = async (): Promise<boolean> => {
      await visit()
      return seen.size >= fleet.report.instances.length
    }
    await until(each, { what: 'a response of each' })
    assert.deepEqual(
      [...seen].sort(),
      fleet.report.instances.map(({ id }) => id),
    )

    const { url: instance } = fleet.report.instances[0] as { url: string }
    const { origin, pathname, hash } = new URL(fleet.report.dashboard)
    assert.deepEqual([origin, pathname], [instance, '/fleet'])
    const enter = (at: string): Promise<Response> =>
      fetch(`${at}/fleet/session`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ code: hash.slice('#code='.length) }),
      })
    assert.equal((await fetch(`${instance}/fleet/state`)).status, 404, 'the address alone opens nothing')
    const entered = await enter(String(fleet.report.instances[1]?.url))
    assert.equal(entered.status, 204)
    assert.equal((await enter(instance)).status, 401, 'the link works once in the whole fleet')
    const operator = { cookie: entered.headers.getSetCookie()[0]?.split(';')[0] ?? '' }
    assert.equal((await fetch(`${instance}/fleet/state`, { headers: operator })).status, 200)

    const asOperator = { headers: { authorization: `Bearer ${fleet.report.adminToken}` } }
    const peers = async (): Promise<string> => {
      const response = await fetch(`${instance}/api/v1/load-balancer/instances`, asOperator)
      const { instances } = (await response.json()) as { instances: { id: string; state: string }[] }
      return instances.map(({ id, state }) => `${id} ${state}`).join()
    }
    const serving = fleet.report.instances.map(({ id }) => `${id} serving`).join()
    await until(async () => (await peers()) === serving, { what: 'all instances in the registry' })

    const redis = fleet.report.servers.find(({ program }) => /redis|valkey/.test(program))
    globalThis.process.kill(redis?.pid ?? 0, 'SIGTERM')
    await fleet.process.waitFor(/Redis on port \d+ ended/)
    await until(async () => (await fetch(`${url}/api/v1/me`, { headers: { cookie } })).status === 200, {
      what: 'the session after Redis came back',
    })

    // A terminal signals the whole process group, and npm forwards its own signal.
    fleet.process.kill('SIGINT')
    await down(fleet, 'SIGINT')
  })

  test('gives each instance a separate management port, and prints the link to the first', async () => {
    const admin = await freePort(3)
    const fleet = await up([], { ...named, FLEET_ADMIN_PORT: admin })
    assert.match(fleet.report.dashboard, new RegExp(`^http://127\\.0\\.0\\.1:${admin}/fleet#code=`))
    const asOperator = { headers: { authorization: `Bearer ${fleet.report.adminToken}` } }
    for (const [i, { url }] of fleet.report.instances.entries()) {
      assert.equal((await fetch(`http://127.0.0.1:${admin + i}/fleet/state`, asOperator)).status, 200)
      assert.equal((await fetch(`${url}/fleet/state`, asOperator)).status, 404)
      assert.equal((await fetch(`${url}/ready`)).status, 200)
    }
    await down(fleet, 'SIGTERM')
  })

  test('leaves no process behind when it is killed', async () => {
    const fleet = await up([program])
    await fleet.process.kill('SIGKILL')
    await until(() => !fleet.pids.some(isAlive), { what: 'the end of all' })
  })

  test('a failed start reports the reason and leaves no process behind', async () => {
    const broken = fileURLToPath(new URL('fixtures/broken.ts', import.meta.url))
    const env = { FLEET_PORT: 0, FLEET_BASE_PORT: await freePort(3), TMPDIR: ownFolder() }
    const process = forkApp(main, { args: ['up', broken, '--front', 'node'], env })
    assert.equal((await process.exit).code, 1)
    assert.match(process.stderr, /FLEET_ERR_SERVICE_FAILED.*broken\.ts ended with 1:.*this app is broken/)
    assert.deepEqual(readdirSync(env.TMPDIR), [])
  })

  test('exits on a signal during the start and leaves no process behind', async () => {
    const env = { FLEET_PORT: 0, FLEET_BASE_PORT: await freePort(3), TMPDIR: ownFolder() }
    const silent = fileURLToPath(new URL('fixtures/silent.ts', import.meta.url))
    const process = forkApp(main, { args: ['up', silent], env })
    await process.waitFor(/starting PostgreSQL/)
    await process.kill('SIGTERM')
    assert.deepEqual(process.ended, { code: 0, signal: null })
    assert.match(process.stderr, /stopped before it was ready/)
    assert.deepEqual(readdirSync(env.TMPDIR), [])
  })

  test('reports a port in use, with the fix', async () => {
    const base = await freePort(3)
    const env = { ...named, FLEET_BASE_PORT: base }
    const args = ['up', program, '--port', String(redis.port)]
    const front = forkApp(main, { args, env: { ...env, FLEET_PORT: 0 } })
    assert.equal((await front.exit).code, 1)
    assert.match(front.stderr, new RegExp(`FLEET_ERR_PORT_TAKEN .*${redis.port}.*the front.*FLEET_PORT=`))
    const instance = forkApp(main, {
      args: ['up', program],
      env: { ...named, FLEET_PORT: 0, FLEET_BASE_PORT: redis.port },
    })
    assert.equal((await instance.exit).code, 1)
    assert.match(instance.stderr, /FLEET_ERR_PORT_TAKEN .*an instance.*FLEET_BASE_PORT=/)
  })

  test('reports a configured server that is unreachable', async () => {
    const REDIS_URL = `redis://:secret@127.0.0.1:${await freePort()}`
    const env = { ...named, FLEET_PORT: 0, FLEET_BASE_PORT: await freePort(3), REDIS_URL }
    const process = forkApp(main, { args: ['up', program], env })
    assert.equal((await process.exit).code, 1)
    assert.match(process.stderr, /FLEET_ERR_SERVICE_FAILED .*\(REDIS_URL\)/)
    assert.doesNotMatch(process.stderr, /secret/)
  })

  for (const [args, says] of [
    [[program, '--front', 'apache'], /--front must be one of nginx, haproxy, node/],
    [[program, '--instances', '0'], /--instances must be a whole number from 1 to 64/],
    [['no-such-file.ts'], /no such file: no-such-file.ts/],
    [[program, program], /expected one FILE/],
  ] as const) {
    test(`rejects ${args.map((arg) => basename(arg)).join(' ')}`, async () => {
      const process = forkApp(main, { args: ['up', ...args] })
      assert.deepEqual(await process.exit, { code: 2, signal: null })
      assert.match(process.stderr, says)
    })
  }
})
