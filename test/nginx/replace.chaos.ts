import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { LocalInstance } from '../../src/cli/up/instances.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { isAtLeast, startFront } from './front.ts'

/** Replacements per instance: as many as fit into half a minute, or FLEET_TEST_ROUNDS. */
const rounds = Number(process.env.FLEET_TEST_ROUNDS ?? 3)
const budgetMs = process.env.FLEET_TEST_ROUNDS ? Number.POSITIVE_INFINITY : 25_000
const drainDelayMs = 1_000

const orders = join(temporaryFolder('orders'), 'orders')
writeFileSync(orders, '')
const redis = await startRedis()
const first = await freePort(3)
const ports = [first, first + 1, first + 2]
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

const start = (policy: string): ReturnType<typeof startFront> =>
  startFront({
    FLEET_POLICY: policy,
    FLEET_TARGETS: ports.map((port) => `127.0.0.1:${port}`).join(),
    // Longer than DRAIN_DELAY.
    FLEET_FAIL_TIMEOUT: '2s',
  })

/** Replaces every instance, each as soon as the previous one is back. */
async function replaceEach(signal: NodeJS.Signals, ended: (port: number) => void = () => {}): Promise<void> {
  for (const { pid, port } of fleet) {
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
  before(() => Promise.all(fleet.map((instance) => instance.start())))
  after(() => Promise.all(fleet.map((instance) => instance.stop(5_000))))

  for (const [policy, times] of [
    ['round-robin', rounds],
    ['sticky', 1],
  ] as const) {
    test(`loses no request while instances are replaced one after the other, ${times} × each: ${policy}`, async (t) => {
      const front = await start(policy)
      const traffic = new Traffic(front.port)
      t.after(() => traffic.halt())
      const began = performance.now()
      let done = 0
      while (done < times && (done === 0 || performance.now() - began < budgetMs)) {
        await replaceEach('SIGTERM')
        done++
      }
      await traffic.stop(orders)
      console.log(`${policy}: ${3 * done} replacements, ${traffic.requests} requests, 0 failed, no POST twice`)
    })
  }

  test('loses no request while nginx is reloaded', async (t) => {
    const front = await start('round-robin')
    const traffic = new Traffic(front.port)
    t.after(() => traffic.halt())
    for (let turn = 0; turn < 10; turn++) await front.reload({})
    if (await isAtLeast(1, 27, 4)) {
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
    const traffic = new Traffic(front.port, clients)
    t.after(() => traffic.halt())
    const kills: { target: string; at: number }[] = []
    await replaceEach('SIGKILL', (port) => kills.push({ target: `127.0.0.1:${port}`, at: Date.now() }))
    await traffic.halt()
    assert.deepEqual(
      traffic.failures.filter((failure) => !failure.startsWith('POST')),
      [],
    )
    // nginx logs the instance of each lost request.
    const lost = front.log().filter(({ status }) => status !== 200)
    assert.deepEqual(
      lost.map(({ method, status }) => `${method} ${status}`),
      Array(lost.length).fill('POST 502'),
    )
    assert.equal(lost.length, traffic.failures.length)
    for (const [i, { target, at }] of kills.entries()) {
      const sent = traffic.failedBegan.filter((began) => began <= at && began > (kills[i - 1]?.at ?? 0)).length
      assert.equal(lost.filter(({ upstream }) => upstream === target).length, sent, 'sent to it before it was gone')
      assert.ok(sent <= clients, 'each client has one request in flight')
      t.diagnostic(`${target}: ${sent} POSTs were in its hands`)
    }
    const last = kills.at(-1)?.at ?? 0
    assert.ok(
      traffic.failedBegan.every((began) => began <= last),
      'nothing is lost of what was sent later',
    )
    const executed = readFileSync(orders, 'utf8').trim().split('\n')
    assert.equal(new Set(executed).size, executed.length, 'an order was carried out twice')
    console.log(`kill -9 of 3: ${traffic.requests} requests, failed: ${traffic.failures.length}, all of them POST`)
  })
})
