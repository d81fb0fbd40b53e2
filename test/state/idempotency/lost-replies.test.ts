import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryIdempotencyStore } from '../../../src/state/idempotency/memory-store.ts'
import { PendingWrites } from '../../../src/state/idempotency/pending-writes.ts'
import { build } from './over-store.ts'

const unavailable = (): never => {
  throw new Error('unavailable')
}

test('a response that could not be stored is stored before the first repetition', async (t) => {
  const store = new MemoryIdempotencyStore()
  const complete = store.complete.bind(store)
  const kept = t.mock.method(PendingWrites.prototype, 'add')
  store.complete = async () => unavailable()
  const { post, calls } = await build({}, store)
  assert.equal((await post('a')).body, 'call 1')
  const [, , bytes = 0, lifeMs] = kept.mock.calls[0]?.arguments ?? []
  assert.ok(bytes >= '{"body":"call 1"}'.length, 'it counts against the bound of what is kept')
  assert.equal(lifeMs, 60_000, 'the time of its lock')
  store.complete = complete
  const again = await post('a')
  assert.deepEqual([again.statusCode, again.body, again.headers['idempotency-replayed']], [200, 'call 1', 'true'])
  assert.equal(calls.count, 1)
})

test('a key whose release was lost is free at the first repetition', async () => {
  const store = new MemoryIdempotencyStore()
  const release = store.release.bind(store)
  store.release = async () => unavailable()
  const { post, calls } = await build({}, store)
  assert.equal((await post('a', { status: 500 })).statusCode, 500)
  store.release = release
  assert.equal((await post('a', { status: 500 })).statusCode, 500)
  assert.equal(calls.count, 2)
})

test('a claim whose reply was lost is given up, so that a repetition runs', async () => {
  const store = new MemoryIdempotencyStore()
  const claim = store.claim.bind(store)
  store.claim = async (...given) => {
    await claim(...given)
    return unavailable()
  }
  const { post, calls, counts } = await build({ onOutage: 'reject' }, store)
  assert.equal((await post('a')).statusCode, 500)
  assert.deepEqual([calls.count, counts.unavailable], [0, 1])
  store.claim = claim
  assert.equal((await post('a')).body, 'call 1')
})

test('headers of 16 KiB are stored with a response, and a larger one gets 409', async () => {
  const { post, calls, counts } = await build()
  const stored = { 'content-type': 'text/plain', 'x-large': '' }
  const longest = 16_384 - JSON.stringify(stored).length
  for (const [length, status, results] of [
    [longest, 200, [1, 0]],
    [longest + 1, 409, [1, 1]],
  ] as const) {
    const payload = { headers: { 'x-large': 'x'.repeat(length) } }
    assert.equal((await post(`${length}`, payload)).statusCode, 200)
    assert.equal((await post(`${length}`, payload)).statusCode, status, `${length} characters`)
    assert.deepEqual([counts.replayed, counts.answer_lost], results)
  }
  assert.equal(calls.count, 2)
})
