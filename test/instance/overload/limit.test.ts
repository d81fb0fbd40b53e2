import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyFleet, type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { type OverloadOptions, overload } from '../../../src/instance/overload/index.ts'
import { ConcurrencyLimit, Limiter, type Sample } from '../../../src/instance/overload/limiter.ts'
import { until } from '../../helpers/until.ts'

const sampleEveryMs = 250

interface Loop {
  /** Utilization of the event loop in each sampling interval from now on. */
  utilization: number
}

async function build(
  t: TestContext,
  options: OverloadOptions,
): Promise<{ app: FastifyInstance; loop: Loop; send(): Promise<LightMyRequestResponse>; release(): void }> {
  const loop = { utilization: 1 }
  t.mock.method(performance, 'now', () => 1_000)
  t.mock.method(performance, 'eventLoopUtilization', () => ({ idle: 0, active: 0, ...loop }))
  t.mock.timers.enable({ apis: ['setInterval'] })
  const app = Fastify()
  t.after(() => app.close())
  await app.register(overload, options)
  await app.register(lifecycle, { signals: false })
  const gate = Promise.withResolvers<void>()
  app.get('/', async () => await gate.promise)
  await app.ready()
  return { app, loop, send: async () => await app.inject('/'), release: gate.resolve }
}

describe('overload limit', () => {
  it('takes force once the event loop was saturated for two samples, and is lifted by one that is not', async (t) => {
    const { app, loop, send, release } = await build(t, {})
    const { limit } = app.overload
    const pending = Array.from({ length: limit }, send)
    await until(() => app.fleet.flow?.waiting === limit)
    const admits = async (): Promise<boolean> => {
      const { concurrency } = app.overload.refused
      const waiting = app.fleet.flow?.waiting ?? 0
      const sent = send()
      await until(() => app.overload.refused.concurrency > concurrency || app.fleet.flow?.waiting === waiting + 1)
      if (app.overload.refused.concurrency > concurrency) assert.equal((await sent).statusCode, 503)
      else pending.push(sent)
      return app.overload.refused.concurrency === concurrency
    }
    t.mock.timers.tick(sampleEveryMs * 2 - 1)
    assert.deepEqual([app.overload.saturated, await admits()], [false, true])
    t.mock.timers.tick(1)
    assert.deepEqual([app.overload.saturated, await admits()], [true, false])
    loop.utilization = 0.97
    t.mock.timers.tick(sampleEveryMs)
    assert.deepEqual([app.overload.saturated, await admits()], [false, true])
    assert.deepEqual(app.overload.refused, { turn: 0, concurrency: 1 })
    release()
    assert.ok((await Promise.all(pending)).every(({ statusCode }) => statusCode === 200))
  })

  it('applies from the limit on, and never below minRequests', async (t) => {
    for (const [minRequests, admitted] of [
      [1, 20],
      [20, 20],
      [21, 21],
    ] as const) {
      const { app, send, release } = await build(t, { minRequests })
      t.mock.timers.tick(sampleEveryMs * 2)
      const sent = Array.from({ length: 23 }, send)
      release()
      const statuses = (await Promise.all(sent)).map(({ statusCode }) => statusCode)
      assert.equal(statuses.filter((status) => status === 200).length, admitted, `minRequests ${minRequests}`)
      assert.equal(app.overload.refused.concurrency, 23 - admitted)
      t.mock.timers.reset()
      t.mock.restoreAll()
    }
  })

  it('stops sampling when the app closes', async (t) => {
    const { app } = await build(t, {})
    await app.close()
    t.mock.timers.tick(sampleEveryMs * 4)
    assert.equal(app.overload.saturated, false)
  })
})

const options = { targetMs: 20, burstMs: 500, minRequests: 20, latency: false }

/** A limiter over counts that a test sets; one sampling interval takes a quarter of a second. */
function limiter(t: TestContext) {
  let now = 0
  t.mock.method(performance, 'now', () => now)
  t.mock.method(performance, 'eventLoopUtilization', () => ({ idle: now, active: 0, utilization: 0.5 }))
  const flow = { waiting: 0, responses: 0, waitedMs: 0 }
  const limiter = new Limiter({ flow } as unknown as FastifyFleet, options)
  const sample = (responses: number, meanMs: number): number => {
    flow.responses += responses
    flow.waitedMs += responses * meanMs
    now += sampleEveryMs
    limiter.sample()
    return limiter.limit
  }
  return { limiter, flow, sample }
}

describe('samples', () => {
  it('cover the responses since the last one', (t) => {
    const { flow, sample } = limiter(t)
    flow.waiting = 30
    // 20 + (√20 × ½) = 22.2
    assert.equal(sample(100, 10), 22)
    // The accepted 30 of 40 ms: 22.24 × ½ + (22.24 × ¾ + √22.24) × ½ = 21.8
    assert.equal(sample(100, 40), 21)
  })

  it('compute rates by the time since the last one', (t) => {
    const { flow, sample } = limiter(t)
    flow.waiting = 30
    sample(0, 0)
    // 1,000 in ¼ s × 30 ms
    assert.equal(sample(1_000, 10), 120)
  })

  it('without responses change nothing', (t) => {
    const { flow, sample } = limiter(t)
    flow.waiting = 30
    for (let i = 0; i < 5; i++) assert.equal(sample(0, 0), 20)
  })

  it('use the largest number of waiting requests since the last one', (t) => {
    const { limiter: admitting, flow, sample } = limiter(t)
    flow.waiting = 30
    admitting.admit()
    flow.waiting = 0
    assert.equal(sample(100, 10), 22)
    assert.equal(sample(100, 10), 22, 'the peak was in the interval before')
  })
})

const used: Sample = { seconds: 0.25, utilization: 0.5, responses: 100, meanMs: 10, waiting: 100_000 }

function feed(limit: ConcurrencyLimit, times: number, sample: Partial<Sample> = {}): number {
  for (let i = 0; i < times; i++) limit.sample({ ...used, ...sample })
  return Math.round(limit.value * 100) / 100
}

describe('concurrency limit', () => {
  it('starts at 20, grows by half its square root, and needs ten responses and half of it in use', () => {
    const limit = new ConcurrencyLimit(20)
    assert.equal(limit.value, 20)
    assert.equal(feed(limit, 1, { responses: 9 }), 20)
    assert.equal(feed(limit, 1, { waiting: 9.9 }), 20)
    assert.equal(feed(limit, 1, { waiting: 10, responses: 10 }), 22.24)
  })

  it('shrinks by a quarter at most, in proportion to the time beyond the accepted one', () => {
    const slow = { responses: 10, seconds: 100 }
    const least = new ConcurrencyLimit(20)
    feed(least, 1, slow)
    // Halved, plus its square root, smoothed.
    const halved = 22.236 * 0.75 + Math.sqrt(22.236) / 2
    assert.ok(Math.abs(feed(least, 1, { ...slow, meanMs: 1e9 }) - halved) < 0.01)
    const some = new ConcurrencyLimit(20)
    feed(some, 1, slow)
    const shrunk = 22.236 * (0.5 + 0.375) + Math.sqrt(22.236) / 2
    assert.ok(Math.abs(feed(some, 1, { ...slow, meanMs: 40 }) - shrunk) < 0.01)
  })

  it('stays between 4 and 10,000', () => {
    const limit = new ConcurrencyLimit(20)
    feed(limit, 1, { responses: 10, seconds: 1_000 })
    assert.equal(feed(limit, 500, { responses: 10, seconds: 1_000, meanMs: 1e6 }), 4)
    assert.equal(feed(limit, 5_000), 10_000)
    assert.equal(feed(limit, 1, { responses: 1e9 }), 10_000)
  })

  it('keeps what the best rate of the last 40 samples needs in the accepted time', () => {
    const limit = new ConcurrencyLimit(20)
    // 4,000 per second × 30 ms
    assert.equal(feed(limit, 1, { responses: 1_000 }), 120)
    const slow = { responses: 10, meanMs: 1e6 }
    assert.equal(feed(limit, 39, slow), 120)
    assert.ok(feed(limit, 1, slow) < 120)
  })

  it('forgets the best mean after two periods of five minutes, not after one', () => {
    const after = (samples: number): number => {
      const limit = new ConcurrencyLimit(20)
      feed(limit, 1, { meanMs: 1 })
      feed(limit, samples, { meanMs: 1_000 })
      return limit.value
    }
    const low = after(2_398)
    assert.ok(after(1_300) <= low && low < 25, `${low}`)
    assert.ok(after(2_500) > low * 2, `${after(2_500)} after ${low}`)
  })

  it('is saturated from a utilization of 0.98 in two samples in a row', () => {
    const limit = new ConcurrencyLimit(20)
    feed(limit, 1, { utilization: 0.98 })
    feed(limit, 1, { utilization: 0.979 })
    feed(limit, 1, { utilization: 0.98 })
    assert.equal(limit.saturated, false)
    feed(limit, 1, { utilization: 0.98 })
    assert.equal(limit.saturated, true)
  })
})
