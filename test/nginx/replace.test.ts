import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { LocalInstance } from '../../src/cli/up/instances.ts'
import { freePort } from '../helpers/free-port.ts'
import { startLoad } from '../helpers/load.ts'
import { startRedis } from '../helpers/redis.ts'
import { type Kill, Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { isAtLeast, startFront } from './front.ts'

/** Replacements per instance. */
const rounds = Number(process.env.FLEET_TEST_ROUNDS ?? 3)
const poolRounds = Math.ceil(rounds / 3)
const drainDelayMs = 1_000

const orders = join(temporaryFolder('orders'), 'orders')
writeFileSync(orders, '')
const redis = await startRedis()
const first = await freePort(5)
const ports = [first, first + 1, first + 2]
const poolPorts = [first + 3, first + 4]
let ready = 0
const options = {
  file: fileURLToPath(new URL('./instance.fixture.ts', import.meta.url)),
  env: {
    REDIS_URL: redis.url,
    ORDERS: orders,
    DRAIN_DELAY: String(drainDelayMs),
    TRUST_PROXY: '127.0.0.1',
    LOG_LEVEL: 'silent',
    NODE_ENV: undefined,
    NODE_TEST_CONTEXT: undefined,
  },
  onEvent: (line: string) => {
    if (line.includes('is ready')) ready++
  },
}
const fleet = ports.map((port, index) => new LocalInstance(index + 1, port, options))
const pool = poolPorts.map((port, index) => new LocalInstance(index + 4, port, options))
const targets = (of: readonly number[]): string => of.map((port) => `127.0.0.1:${port}`).join()

const start = (policy: string): ReturnType<typeof startFront> =>
  startFront({
    FLEET_POLICY: policy,
    FLEET_TARGETS: targets(ports),
    FLEET_POOLS: 'v2',
    FLEET_POOL_V2_TARGETS: targets(poolPorts),
    FLEET_ROUTES: '/v2=v2',
    // Longer than DRAIN_DELAY.
    FLEET_FAIL_TIMEOUT: '2s',
  })

/** Replaces every instance, each as soon as the previous one is back. */
async function replaceEach(
  signal: NodeJS.Signals,
  ended: (port: number) => void = () => {},
  which: readonly LocalInstance[] = fleet,
): Promise<void> {
  for (const { pid, port } of which) {
    const before = ready
    process.kill(pid as number, signal)
    await until(() => isGone(pid as number), { what: 'its end', timeoutMs: 60_000 })
    ended(port)
    await until(() => ready > before, { what: 'a successor', timeoutMs: 120_000 })
  }
}

function isGone(pid: number): boolean {
  try {
    return !process.kill(pid, 0)
  } catch {
    return true
  }
}

describe('replacing instances behind nginx', () => {
  before(() => Promise.all([...fleet, ...pool].map((instance) => instance.start())))
  after(() => Promise.all([...fleet, ...pool].map((instance) => instance.stop(5_000))))

  for (const [policy, times] of [
    ['round-robin', rounds],
    ['sticky', 1],
  ] as const) {
    test(`loses no request while instances are replaced one after the other, ${times} × each: ${policy}`, async (t) => {
      const front = await start(policy)
      const traffic = new Traffic(front.port)
      t.after(() => traffic.halt())
      for (let done = 0; done < times; done++) await replaceEach('SIGTERM')
      await traffic.stop(orders)
      console.log(`${policy}: ${3 * times} replacements, ${traffic.requests} requests, 0 failed, no POST twice`)
    })
  }

  test(`rolls and kills the instances of one pool without a failure in either, ${poolRounds} × each`, async (t) => {
    const front = await start('least-conn')
    const loads = ['/', '/v2'].map((path) => startLoad(front.url, { clients: 3, requests: [{ method: 'GET', path }] }))
    t.after(() => Promise.allSettled(loads.map((load) => load.stop())))
    const seen = { '/': new Set<string>(), '/v2': new Set<string>() }
    const note = (): void => {
      for (const { id } of fleet) seen['/'].add(id)
      for (const { id } of pool) seen['/v2'].add(id)
    }
    for (let done = 0; done < poolRounds; done++) {
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        note()
        await replaceEach(signal, undefined, pool)
      }
    }
    await replaceEach('SIGKILL', undefined, fleet.slice(0, 1))
    note()
    await Promise.all(loads.map((load) => load.stop()))
    assert.deepEqual(
      loads.flatMap(({ failures }) => failures),
      [],
    )
    for (const [index, path] of (['/', '/v2'] as const).entries()) {
      const { byInstance = new Map<string, number>(), passed = 0 } = loads[index] ?? {}
      for (const id of byInstance.keys()) assert.ok(seen[path].has(id), `${id} served ${path}`)
      console.log(`${path}: ${passed} requests, ${byInstance.size} processes, 0 failed`)
    }
  })

  test('loses no request while nginx is reloaded', async (t) => {
    const front = await start('round-robin')
    const traffic = new Traffic(front.port)
    t.after(() => traffic.halt())
    for (let turn = 0; turn < 10; turn++) await front.reload({})
    if (await isAtLeast([1, 27, 4])) {
      await traffic.stop(orders)
    } else {
      // The reload closes idle client connections, and a request may be in transit. New connections are not affected.
      await traffic.halt()
      const others = traffic.failures.filter(
        (failure) => !/kept alive: Error: (?:socket hang up|read ECONN)/.test(failure),
      )
      assert.deepEqual(others, [])
    }
    console.log(`10 reloads: ${traffic.requests} requests, ${traffic.failures.length} failed`)
  })

  test('loses no GET, and only in-flight POSTs, when an instance is killed', async (t) => {
    const front = await start('round-robin')
    const clients = 8
    const traffic = new Traffic(front.port, clients, 'mixed', { repeats: ['PUT', 'DELETE'] })
    t.after(() => traffic.halt())
    const kills: Kill[] = []
    for (const instance of fleet) {
      const from = Date.now()
      await replaceEach('SIGKILL', () => kills.push({ from, to: Date.now() }), [instance])
    }
    const counts = await traffic.stop(orders, kills)
    // nginx logs the instance of each lost request.
    const lost = front.log().filter(({ status }) => status !== 200)
    for (const { method, status } of lost) assert.match(`${method} ${status}`, /^(POST|PATCH) 502$/)
    assert.equal(lost.length, counts.inFlight)
    console.log(`kill -9 of 3: ${traffic.requests} requests, failed: ${traffic.failures.length}, all of them POST`)
  })
})
