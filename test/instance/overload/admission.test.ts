import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Limiter, type limiterOptions } from '../../../src/instance/overload/limiter.ts'

type Options = { [K in keyof typeof limiterOptions]?: number | boolean }

/** A limiter whose clock, event loop and requests in flight the test sets. */
function open(t: TestContext, options: Options = {}) {
  const clock = { now: 1_000, idle: 0, utilization: 0.5 }
  t.mock.method(performance, 'now', () => clock.now)
  t.mock.method(performance, 'eventLoopUtilization', () => ({
    idle: clock.idle,
    active: clock.now,
    utilization: clock.utilization,
  }))
  const flow = { waiting: 0, responses: 0, waitedMs: 0 }
  const given = { targetMs: 20, burstMs: 500, minRequests: 1, latency: false, ...options }
  const limiter = new Limiter({ flow } as never, given as never)
  /** Requests that arrive while others wait. @returns how many are admitted */
  const arrive = (...waiting: number[]): number =>
    waiting.filter((count) => {
      flow.waiting = count
      return limiter.admit()
    }).length
  /** A sampling interval with responses of a mean time. */
  const sample = (responses: number, meanMs: number, ms = 250): void => {
    clock.now += ms
    flow.responses += responses
    flow.waitedMs += responses * meanMs
    limiter.sample()
  }
  return { clock, flow, limiter, arrive, sample }
}

describe('the concurrency limit', () => {
  it('applies from the second saturated sample until the first that is not', (t) => {
    const { clock, arrive, sample } = open(t, { burstMs: 60_000 })
    const admitted = (): boolean => arrive(20) === 1
    assert.equal(admitted(), true)
    clock.utilization = 0.98
    sample(0, 0)
    assert.equal(admitted(), true)
    sample(0, 0)
    assert.deepEqual([admitted(), arrive(19)], [false, 1])
    clock.utilization = 0.979
    sample(0, 0)
    assert.equal(admitted(), true)
  })

  it('applies from the start and at all times with `latency`', (t) => {
    const { arrive, sample } = open(t, { latency: true, burstMs: 60_000 })
    assert.deepEqual([arrive(19), arrive(20)], [1, 0])
    sample(0, 0)
    assert.deepEqual([arrive(19), arrive(20)], [1, 0])
  })

  it('sheds nothing below `minRequests`', (t) => {
    const { arrive } = open(t, { latency: true, minRequests: 30, burstMs: 60_000 })
    assert.deepEqual([arrive(29), arrive(30)], [1, 0])
  })

  it('grows by the largest number of requests since the last sample', (t) => {
    const { limiter, arrive, sample, flow } = open(t, { latency: true, burstMs: 60_000 })
    arrive(12, 1)
    sample(100, 10)
    assert.equal(limiter.limit, 22)
    arrive(1)
    sample(100, 10)
    assert.equal(limiter.limit, 22, 'the earlier number is forgotten')
    flow.waiting = 12
    sample(100, 10)
    assert.equal(limiter.limit, 24, 'those that wait now count too')
  })

  it('is computed from the mean time and the rate of the interval alone', (t) => {
    const { limiter, arrive, sample } = open(t, { latency: true, burstMs: 60_000 })
    arrive(20)
    sample(400, 30, 1_000)
    // 400 per second × (30 + 20) ms
    assert.equal(limiter.limit, 22)
    arrive(22)
    sample(1_000, 30, 1_000)
    assert.equal(limiter.limit, 50)
    arrive(50)
    sample(1_000, 300, 1_000)
    assert.equal(limiter.limit, 50, 'the rate needs it')
    for (let i = 0; i < 120; i++) {
      arrive(50)
      sample(20, 300, 1_000)
    }
    assert.equal(limiter.limit, 4)
  })
})

describe('a long turn of the event loop', () => {
  const decided = async (limiter: Limiter): Promise<string> => {
    let outcome = 'later'
    limiter.decide(
      () => {
        outcome = 'admitted'
      },
      () => {
        outcome = 'shed'
      },
    )
    const first = outcome
    await nextTurn()
    return first === 'later' ? `later ${outcome}` : outcome
  }

  it('sheds beyond `burstMs`, and more than `minRequests`', async (t) => {
    const { clock, limiter } = open(t, { minRequests: 2 })
    const enter = (): boolean => limiter.admit()
    assert.equal(enter(), true)
    clock.now += 500
    assert.deepEqual([enter(), enter()], [true, true], 'exactly burstMs')
    clock.now += 1
    assert.equal(enter(), false)
    assert.equal(await decided(limiter), 'shed')
    assert.deepEqual(limiter.refused, { turn: 1, concurrency: 0 })
  })

  it('does not shed at `minRequests`, however long it is', (t) => {
    const { clock, limiter } = open(t, { minRequests: 2 })
    limiter.admit()
    clock.now += 60_000
    assert.equal(limiter.admit(), true)
    assert.equal(limiter.admit(), false)
  })

  it('that follows another one without an idle moment defers requests, and sheds beyond `targetMs`', async (t) => {
    const { clock, limiter } = open(t, { minRequests: 1 })
    const turn = async (ms: number): Promise<void> => {
      limiter.admit()
      limiter.admit()
      clock.now += ms
      await nextTurn()
    }
    await turn(480)
    assert.equal(limiter.admit(), true, 'busy for less than burstMs')
    clock.now += 21
    await nextTurn()
    assert.equal(limiter.admit(), false)
    assert.equal(await decided(limiter), 'later admitted', 'within targetMs')
    await turn(21)
    limiter.admit()
    limiter.admit()
    clock.now += 21
    assert.equal(await decided(limiter), 'later shed')
    clock.idle += 5
    clock.now += 5
    assert.equal(limiter.admit(), true, 'after an idle moment')
  })
})
