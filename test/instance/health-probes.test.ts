import assert from 'node:assert/strict'
import fs from 'node:fs/promises'
import { request } from 'node:http'
import { describe, it, type TestContext } from 'node:test'
import v8 from 'node:v8'
import rateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance } from 'fastify'
import { loadBalancer } from '../../src/instance/admin-api.ts'
import { type HealthOptions, health } from '../../src/instance/health/index.ts'
import { CheckRunner } from '../../src/instance/health/runner.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { metrics } from '../../src/instance/metrics/index.ts'
import type { LoadMeter } from '../../src/instance/metrics/load.ts'
import { mockBuiltins } from '../helpers/mock-builtins.ts'
import { until } from '../helpers/until.ts'

async function build(
  t: TestContext,
  options: HealthOptions = {},
  load: Partial<Pick<LoadMeter, 'eventLoopDelayMs' | 'eventLoopUtilization'>> = {},
): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(lifecycle, { signals: false })
  await app.register(health, options)
  const figures = { eventLoopDelayMs: 0, eventLoopUtilization: 0, ...load }
  for (const [name, value] of Object.entries(figures)) Object.defineProperty(app.load, name, { get: () => value })
  await app.listen({ port: 0, host: '127.0.0.1' })
  await until(() => Object.values(app.health.reports).every(({ status }) => status !== 'pending'))
  return app
}

/** A nearly full disk, heap and cgroup. */
function full(t: TestContext): void {
  mockBuiltins(t, () => {
    t.mock.method(fs, 'statfs', (async () => ({ bavail: 49, blocks: 1_000, bsize: 4_096 })) as never)
    t.mock.method(process, 'constrainedMemory', () => 10_000)
    t.mock.method(process.memoryUsage, 'rss', () => 9_501)
    t.mock.method(v8, 'getHeapStatistics', (() => ({ heap_size_limit: 259 * 2 ** 20 })) as never)
    const old = { space_name: 'old_space', space_used_size: 255_013_684 }
    t.mock.method(v8, 'getHeapSpaceStatistics', (() => [old]) as never)
  })
}

const get = async (app: FastifyInstance, url: string) => {
  const response = await app.inject(url)
  return { status: response.statusCode, body: response.json() }
}

describe('built-in checks', () => {
  it('have the documented defaults', async (t) => {
    const app = await build(t, { disk: {} })
    const { memory, eventLoop, disk, checks, maxStuckMs } = app.fleet.configuration.health as Record<string, object>
    assert.deepEqual(memory, { critical: false, maxHeapShare: 0.95, maxRssShare: 0.95 })
    assert.deepEqual(eventLoop, { critical: false, maxDelayMs: 1_000, maxUtilization: 0.98 })
    assert.deepEqual(disk, { critical: false, path: '/', minFreeBytes: 0, minFreeShare: 0.05 })
    assert.deepEqual(checks, { critical: true, intervalMs: 5_000, timeoutMs: 2_000, rise: 2, fall: 3 })
    assert.equal(maxStuckMs, 10_000)
  })

  it('degrade an instance whose memory, disk and event loop are at their limits, which stays ready', async (t) => {
    full(t)
    const app = await build(t, { disk: {} }, { eventLoopDelayMs: 1_001, eventLoopUtilization: 0.5 })
    const { status, body } = await get(app, '/health/detailed')
    assert.deepEqual([status, body.status, body.success], [200, 'degraded', true])
    const seen = Object.entries<Record<string, unknown>>(body.checks).map(([name, report]) => [
      name,
      report.status,
      report.critical,
      report.lastError,
      report.consecutiveFailures,
      report.lastSuccess,
    ])
    assert.deepEqual(seen, [
      ['memory', 'down', false, 'heap: 255013684 of 268435456 bytes', 1, null],
      ['eventLoop', 'down', false, 'delayed by 1001 ms', 1, null],
      ['disk', 'down', false, '/ has 200704 bytes free (5 %)', 1, null],
    ])
    assert.deepEqual(body.memory, {
      used: 9_501,
      total: 10_000,
      percentage: 95,
      heapUsed: 255_013_684,
      heapLimit: 268_435_456,
    })
    assert.deepEqual(body.eventLoop, { delayMs: 1_001, utilization: 0.5 })
    assert.deepEqual(body.disk, { path: '/', freeBytes: 200_704, freeShare: 0.049 })
    assert.deepEqual(app.health.readiness, { ready: true })
  })

  it('take the instance out of rotation if they are critical', async (t) => {
    full(t)
    const critical = true
    const app = await build(t, { memory: { critical }, disk: { critical }, eventLoop: false })
    const { status, body } = await get(app, '/ready')
    assert.deepEqual([status, body.ready, body.loadBalancerReady], [503, false, false])
    assert.equal(body.reason, 'failed: memory, disk')
    assert.deepEqual([(await get(app, '/health')).status, (await get(app, '/live')).status], [503, 200])
    assert.equal((await get(app, '/health/detailed')).status, 503)
  })

  it('have the limits that are set', async (t) => {
    full(t)
    const memory = { maxHeapShare: 1, maxRssShare: 0.96 }
    const options = { memory, disk: { minFreeShare: 0.049 }, eventLoop: { maxDelayMs: 1_001, maxUtilization: 0.5 } }
    const app = await build(t, options, { eventLoopDelayMs: 1_001, eventLoopUtilization: 0.5 })
    assert.equal(app.health.status, 'healthy')
    const strict = { memory: { ...memory, maxRssShare: 0.95 }, disk: { minFreeShare: 0.05 } }
    const other = await build(t, { ...options, ...strict }, { eventLoopDelayMs: 1_002 })
    assert.deepEqual(
      Object.values(other.health.reports).map(({ status }) => status),
      ['down', 'down', 'down'],
    )
  })

  it('can be disabled', async (t) => {
    const app = await build(t, { memory: false, eventLoop: false })
    assert.deepEqual(app.health.reports, {})
    const missing = await build(t, { disk: { path: '/no/such/path' } })
    const { body } = await get(missing, '/health/detailed')
    assert.deepEqual([body.disk, body.checks.disk.status], [null, 'down'])
  })
})

describe('liveness', () => {
  for (const [delay, status] of [
    [499.9, 200],
    [500, 503],
  ] as const) {
    it(`responds ${status} after the event loop was blocked for ${delay} of maxStuckMs 500`, async (t) => {
      const app = await build(t, { maxStuckMs: 500 }, { eventLoopDelayMs: delay })
      for (const path of ['/live', '/alive']) {
        const { status: live, body } = await get(app, path)
        assert.deepEqual([live, body.alive, body.instanceId], [status, status === 200, app.fleet.instance.id])
      }
    })
  }

  it('responds 503 after a fatal error', async (t) => {
    const app = await build(t)
    Object.assign(app.fleet, { fatal: new Error('fatal') })
    const { status, body } = await get(app, '/live')
    assert.deepEqual([status, body.alive], [503, false])
  })
})

describe('probes', () => {
  it('are not logged as requests', async (t) => {
    const lines: { req?: { url: string } }[] = []
    const app = Fastify({ logger: { stream: { write: (line: string) => lines.push(JSON.parse(line)) } } })
    t.after(() => app.close())
    await app.register(health)
    for (const path of ['/live', '/alive', '/ready', '/health', '/other']) await app.inject(path)
    assert.deepEqual(
      lines.flatMap(({ req }) => req?.url ?? []),
      ['/other'],
    )
  })

  it('and operators’ endpoints are subject to no rate limit of the app, and no part of its load', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(rateLimit, { max: 1 })
    await app.register(health, { maxStuckMs: 3_600_000 })
    await app.register(metrics, { runtime: false })
    await app.register(loadBalancer)
    app.get('/', async () => 'ok')
    const twice = async (url: string): Promise<number[]> => [
      (await app.inject(url)).statusCode,
      (await app.inject(url)).statusCode,
    ]
    for (const url of ['/live', '/alive', '/health', '/health/detailed', '/metrics', '/api/v1/load-balancer/health'])
      assert.deepEqual(await twice(url), [200, 200], url)
    assert.deepEqual(await twice('/ready'), [503, 503], 'it does not listen')
    assert.deepEqual(app.load.totals, { requests: 0, errors: 0 })
    assert.deepEqual(await twice('/'), [200, 429])
    assert.deepEqual(app.load.totals, { requests: 2, errors: 0 })
  })

  it('report who responds and when', async (t) => {
    const before = Date.now()
    const app = await build(t)
    const { id: instanceId, version, color } = app.fleet.instance
    const { uptime, timestamp, ...rest } = (await get(app, '/health')).body
    assert.deepEqual(rest, { status: 'healthy', success: true, instanceId, color, version })
    assert.ok(uptime > 0 && uptime <= process.uptime() + 0.1)
    assert.equal(Math.round(uptime * 10) / 10, uptime)
    assert.equal(new Date(timestamp).toISOString(), timestamp)
    assert.ok(Date.parse(timestamp) >= before && Date.parse(timestamp) <= Date.now())
    const { timestamp: _, ...ready } = (await get(app, '/ready')).body
    assert.deepEqual(ready, { ready: true, instanceId, version, loadBalancerReady: true })
  })

  it('send the load only if X-Fleet-Load asks for it: other requests that wait, and the median time', async (t) => {
    const app = await build(t)
    app.load.read = () => ({ rps: 1, errorRate: 0, p50: 3.4, p95: 5, p99: 6, eventLoopUtilization: 0 })
    const flow = app.fleet.flow as { waiting: number }
    flow.waiting = 4
    const { headers } = await app.inject({ url: '/ready', headers: { 'x-fleet-load': '1' } })
    assert.equal(headers['x-fleet-load'], 'inflight=4, latency=3.4')
    assert.equal((await app.inject('/ready')).headers['x-fleet-load'], undefined)
  })

  it('are served on a connection, and respond 503 with the reason while draining', async (t) => {
    const app = await build(t)
    app.fleet.drain()
    const { port } = app.server.address() as { port: number }
    const status = await new Promise((resolve, reject) => {
      request({ port, host: '127.0.0.1', path: '/ready' }, (response) => resolve(response.resume().statusCode))
        .on('error', reject)
        .end()
    })
    assert.equal(status, 503)
    assert.equal((await get(app, '/ready')).body.reason, 'draining')
    assert.deepEqual([(await get(app, '/health')).status, (await get(app, '/live')).status], [200, 200])
  })
})

describe('reports', () => {
  const options = { critical: true, intervalMs: 3_600_000, timeoutMs: 60_000, rise: 2, fall: 2 }

  it('have the duration, the last success, the last error and the failures in a row', async (t) => {
    let now = 1_000
    t.mock.method(performance, 'now', () => now)
    const runner = new CheckRunner()
    let error: Error | undefined
    runner.add(
      'store',
      () => {
        now += 12.34
        if (error) throw error
      },
      options,
    )
    const untouched = { status: 'pending', critical: true, latencyMs: null, lastSuccess: null }
    assert.deepEqual(runner.reports().store, { ...untouched, lastError: null, consecutiveFailures: 0 })
    await runner.runAll()
    const { lastSuccess, ...passed } = { ...runner.reports().store }
    assert.deepEqual(passed, { status: 'up', critical: true, latencyMs: 12.3, lastError: null, consecutiveFailures: 0 })
    assert.equal(new Date(String(lastSuccess)).toISOString(), lastSuccess)
    error = new TypeError('')
    await runner.runAll()
    const failed = { critical: true, latencyMs: 12.3, lastSuccess, lastError: 'TypeError' }
    assert.deepEqual(runner.reports().store, { ...failed, status: 'degraded', consecutiveFailures: 1 })
    await runner.runAll()
    assert.deepEqual(runner.reports().store, { ...failed, status: 'down', consecutiveFailures: 2 })
    assert.deepEqual(runner.unmet(), { down: ['store'], pending: [], degraded: [] })
  })

  it('name the checks that are not up: a critical one that is pending or down, any that is degraded', () => {
    const runner = new CheckRunner()
    runner.add('a', () => true, options)
    runner.add('b', () => true, { ...options, critical: false })
    assert.deepEqual(runner.unmet(), { down: [], pending: ['a'], degraded: [] })
  })
})
