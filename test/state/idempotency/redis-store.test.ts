import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { RedisIdempotencyStore } from '../../../src/state/idempotency/redis-store.ts'
import { ownRedis, testKey } from '../own-redis.ts'

const own = ownRedis()
const key = 'test:idempotency:{k}'
let store: RedisIdempotencyStore
beforeEach(async () => {
  await own.client.flushall()
  store = new RedisIdempotencyStore(own.client, testKey)
})
const ttlIn = async (above: number, most: number): Promise<void> => {
  const ttlMs = await own.client.pttl(key)
  assert.ok(ttlMs > above && ttlMs <= most, `${ttlMs} ms`)
}

describe('an idempotency record in Redis', () => {
  test('is a lock that ends with its time, until its owner completes it', async () => {
    await store.claim('k', 'print', 'token', 60_000)
    assert.equal(await own.client.get(key), 'Lprint token')
    await ttlIn(30_000, 60_000)
    await store.claim('k', 'print', 'other', 600_000)
    await ttlIn(30_000, 60_000)
    assert.equal(await store.complete('k', 'print', 'token', 'the response', 600_000), true)
    assert.equal(await own.client.get(key), 'Aprint the response')
    await ttlIn(540_000, 600_000)
  })

  test('is renewed and released by its owner only', async () => {
    await store.claim('k', 'print', 'token', 60_000)
    await store.renew('k', 'print', 'other', 600_000)
    await ttlIn(30_000, 60_000)
    await store.renew('k', 'print', 'token', 600_000)
    await ttlIn(540_000, 600_000)
    await store.release('k', 'print', 'other')
    assert.equal(await own.client.exists(key), 1)
    await store.release('k', 'print', 'token')
    assert.equal(await own.client.exists(key), 0)
    assert.equal(await store.complete('k', 'print', 'token', 'late', 600_000), false)
    assert.equal(await own.client.exists(key), 0)
  })

  test('that the fleet did not write is replaced', async () => {
    for (const put of [
      () => own.client.set(key, 'Lprint token'),
      () => own.client.set(key, 'Xprint token', 'PX', 60_000),
      () => own.client.set(key, 'Lprint', 'PX', 60_000),
      () => own.client.set(key, 'L token', 'PX', 60_000),
      () => own.client.rpush(key, 'Lprint token'),
    ]) {
      await own.client.del(key)
      await put()
      assert.deepEqual(await store.claim('k', 'print', 'mine', 600_000), { status: 'first' })
      assert.equal(await own.client.get(key), 'Lprint mine')
      await ttlIn(540_000, 600_000)
    }
  })
})
