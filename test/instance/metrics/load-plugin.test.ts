import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import { LoadMeter, load } from '../../../src/instance/metrics/load.ts'

describe('the load of an app', () => {
  async function build(t: TestContext): Promise<FastifyInstance> {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(load)
    app.get('/status/:code', async (request, reply) =>
      reply.code(Number((request.params as { code: string }).code)).send(),
    )
    app.get('/probe', { config: { probe: true } }, async () => 'ok')
    return app
  }

  it('counts responses, those from 500 on as errors, and no probes', async (t) => {
    const app = await build(t)
    for (const url of ['/status/200', '/status/499', '/probe', '/status/500', '/status/503', '/missing'])
      await app.inject(url)
    assert.deepEqual(app.load.totals, { requests: 5, errors: 2 })
  })

  it('is reported to the peers', async (t) => {
    const app = await build(t)
    app.load.read = () => ({ rps: 7, errorRate: 0.5, p50: 1, p95: 9, p99: 10, eventLoopUtilization: 0.3 })
    const { rps, errorRate, p95, eventLoopUtilization } = app.fleet.self()
    const expected = { rps: 7, errorRate: 0.5, p95: 9, eventLoopUtilization: 0.3 }
    assert.deepEqual({ rps, errorRate, p95, eventLoopUtilization }, expected)
    assert.equal('p50' in app.fleet.self(), false)
  })

  it('does not count what blocks the event loop before the app is ready or listens', async (t) => {
    const block = async (): Promise<void> => {
      const end = performance.now() + 1_500
      while (performance.now() < end);
      await setImmediate()
    }
    const app = await build(t)
    await app.register(block)
    const ticks = t.mock.method(LoadMeter.prototype, 'tick')
    await app.ready()
    assert.deepEqual([ticks.mock.callCount(), app.load.eventLoopDelayMs, app.load.eventLoopUtilization], [0, 0, 0])
  })

  it('moves on each second, until the app is closed', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] })
    const tick = t.mock.method(LoadMeter.prototype, 'tick')
    const app = await build(t)
    await app.ready()
    t.mock.timers.tick(999)
    assert.equal(tick.mock.callCount(), 0)
    t.mock.timers.tick(2_001)
    assert.equal(tick.mock.callCount(), 3)
    await app.close()
    t.mock.timers.tick(2_000)
    assert.equal(tick.mock.callCount(), 3)
  })
})

describe('a load meter', () => {
  /** A meter whose clock and event loop the test sets. */
  function open(t: TestContext) {
    const clock = { now: 1_000, active: 0 }
    t.mock.method(performance, 'now', () => clock.now)
    type Utilization = { idle: number; active: number; utilization: number }
    t.mock.method(performance, 'eventLoopUtilization', (now?: Utilization, before?: Utilization) => {
      if (!now || !before) return { idle: clock.now - clock.active, active: clock.active, utilization: 0 }
      const [active, idle] = [now.active - before.active, now.idle - before.idle]
      return { active, idle, utilization: active / (active + idle) }
    })
    const meter = new LoadMeter()
    const tick = (ms: number, active: number): void => {
      clock.now += ms
      clock.active += active
      meter.tick()
    }
    return { meter, tick }
  }

  it('measures how late a second is, and the busy share of the last second', (t) => {
    const { meter, tick } = open(t)
    assert.deepEqual([meter.eventLoopDelayMs, meter.eventLoopUtilization], [0, 0])
    tick(1_250, 500)
    assert.deepEqual([meter.eventLoopDelayMs, meter.eventLoopUtilization], [250, 0.4])
    tick(900, 90.04)
    assert.deepEqual([meter.eventLoopDelayMs, meter.eventLoopUtilization], [0, 0.1])
  })

  it('averages over the full seconds, ten at most', () => {
    const meter = new LoadMeter()
    const zeros = { rps: 0, errorRate: 0, p50: 0, p95: 0, p99: 0, eventLoopUtilization: 0 }
    meter.observe(1, true)
    assert.deepEqual(meter.read(), zeros)
    meter.tick()
    const rates: [number, number][] = []
    for (let second = 1; second <= 12; second++) {
      const { rps, errorRate } = meter.read()
      rates.push([rps, errorRate])
      if (second <= 10) meter.observe(1, second > 5)
      meter.tick()
    }
    const after = (seconds: number): [number, number] => rates[seconds - 1] as [number, number]
    assert.deepEqual(
      [after(1), after(2), after(6)],
      [
        [1, 1],
        [1, 0.5],
        [1, 0.1667],
      ],
    )
    assert.deepEqual(
      [after(10), after(11), after(12)],
      [
        [1, 0.5],
        [1, 0.5],
        [0.9, 0.5556],
      ],
    )
    meter.observe(1, true)
    for (let second = 0; second < 11; second++) meter.tick()
    assert.deepEqual({ ...meter.read(), eventLoopUtilization: 0 }, zeros, 'an error is forgotten with its request')
    assert.deepEqual(meter.totals, { requests: 12, errors: 7 })
  })

  it('has buckets of 15 % from 0.1 ms to a minute', () => {
    for (const [ms, least] of [
      [0, 0.1],
      [0.1, 0.1],
      [0.11, 0.1],
      [1, 1],
      [100, 100],
      [60_000, 60_000],
    ] as const) {
      const meter = new LoadMeter()
      meter.observe(ms, false)
      meter.tick()
      const { p50, p99 } = meter.read()
      assert.ok(p50 >= least && p50 <= Math.max(0.1, least * 1.15 + 0.05), `${p50} for ${ms}`)
      assert.equal(p99, p50)
    }
    const meter = new LoadMeter()
    meter.observe(60_000, false)
    meter.observe(1e9, false)
    meter.tick()
    assert.ok(meter.read().p99 < 60_000 * 1.33, `${meter.read().p99}`)
  })
})
