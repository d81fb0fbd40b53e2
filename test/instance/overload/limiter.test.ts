import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ConcurrencyLimit, type Sample } from '../../../src/instance/overload/limiter.ts'

const quiet: Sample = { seconds: 0.25, utilization: 0.5, responses: 100, meanMs: 10, waiting: 0 }

function feed(limit: ConcurrencyLimit, times: number, sample: Partial<Sample>): number {
  for (let i = 0; i < times; i++) limit.sample({ ...quiet, ...sample })
  return limit.value
}

describe('concurrency limit', () => {
  it('grows while requests are fast and the limit is used, and only then', () => {
    const limit = new ConcurrencyLimit(20)
    const first = limit.value
    assert.equal(feed(limit, 100, { waiting: first / 2 - 1 }), first)
    assert.ok(feed(limit, 1, { waiting: first }) > first)
    assert.ok(feed(limit, 1_000, { waiting: 10_000 }) > 1_000)
  })

  it('shrinks while requests wait longer than the target', () => {
    const limit = new ConcurrencyLimit(20)
    const grown = feed(limit, 40, { waiting: 10_000 })
    const shrunk = feed(limit, 3, { meanMs: 300, waiting: 10_000 })
    assert.ok(shrunk < grown * 0.7, `${shrunk} after ${grown}`)
  })

  it('settles where the mean time is the best mean plus the target', () => {
    // A pool of ten connections, 20 ms each: 500 per second. More than ten requests queue.
    const limit = new ConcurrencyLimit(20)
    feed(limit, 5, { responses: 25, meanMs: 20, waiting: 2 })
    for (let i = 0; i < 400; i++) {
      const waiting = limit.value
      feed(limit, 1, { responses: 125, meanMs: Math.max(20, (waiting / 500) * 1_000), waiting })
    }
    assert.ok(limit.value >= 18 && limit.value <= 30, String(limit.value))
  })

  it('keeps what the best rate needs when responses are slow for another reason', () => {
    const limit = new ConcurrencyLimit(20)
    feed(limit, 10, { responses: 250, meanMs: 20, waiting: 30 })
    const value = feed(limit, 30, { responses: 100, meanMs: 900, waiting: 100 })
    assert.ok(value >= 1_000 * 0.04, String(value))
    // Ten seconds later the rate is forgotten.
    assert.ok(feed(limit, 60, { responses: 10, meanMs: 900, waiting: 100 }) < 1_000 * 0.04)
  })

  it('does not change after a few responses', () => {
    const limit = new ConcurrencyLimit(20)
    const before = feed(limit, 4, {})
    assert.equal(feed(limit, 50, { responses: 9, meanMs: 60_000, waiting: 1_000 }), before)
  })

  it('is saturated after half a second without an idle moment', () => {
    const limit = new ConcurrencyLimit(20)
    feed(limit, 1, { utilization: 1 })
    assert.equal(limit.saturated, false)
    feed(limit, 1, { utilization: 1 })
    assert.equal(limit.saturated, true)
    feed(limit, 1, { utilization: 0.97 })
    assert.equal(limit.saturated, false)
  })
})
