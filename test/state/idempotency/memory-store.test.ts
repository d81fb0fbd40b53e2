import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { MemoryIdempotencyStore } from '../../../src/state/idempotency/memory-store.ts'

describe('a record in memory', () => {
  const open = (t: TestContext) => {
    const clock = { now: 1000 }
    t.mock.method(performance, 'now', () => clock.now)
    return { clock, store: new MemoryIdempotencyStore({ maxRecords: 2, maxBytes: 10 }) }
  }

  test('ends at the millisecond: a lock after `lockMs`, a response after `ttlMs`', async (t) => {
    const { clock, store } = open(t)
    await store.claim('k', 'p', 't', 100)
    clock.now += 99
    assert.equal((await store.claim('k', 'p', 'u', 100)).status, 'in_flight')
    await store.renew('k', 'p', 't', 100)
    clock.now += 99
    assert.equal(await store.complete('k', 'p', 't', 'r', 50), true)
    clock.now += 49
    assert.deepEqual(await store.claim('k', 'p', 'u', 100), { status: 'completed', response: 'r' })
    clock.now += 1
    assert.equal((await store.claim('k', 'p', 'u', 100)).status, 'first')
    clock.now += 100
    assert.equal(await store.complete('k', 'p', 'u', 'r', 50), false, 'of a lost lock')
  })

  test('is dropped beyond the bounds, and not at them', async (t) => {
    const { store } = open(t)
    for (const key of ['a', 'b']) await store.claim(key, 'p', 't', 100)
    assert.equal(store.size, 2)
    await store.complete('a', 'p', 't', 'x'.repeat(6), 100)
    await store.complete('b', 'p', 't', 'x'.repeat(4), 100)
    assert.equal(store.size, 2)
    await store.claim('c', 'p', 't', 100)
    assert.equal(store.size, 2)
    assert.equal(await store.complete('c', 'p', 't', 'x'.repeat(7), 100), true)
    assert.equal(store.size, 1)
    await store.complete('c', 'q', 't', 'x', 100)
    await store.release('c', 'p', 'u')
    assert.equal(store.size, 1)
  })
})
