import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { RedisLockStore } from '../../../src/state/locks/redis-store.ts'
import { ownRedis, testKey } from '../own-redis.ts'
import { scriptClock } from '../redis-clock.ts'

const own = ownRedis()
const setTime = scriptClock(own)
const start = 1_800_000_000_000
const micros = start * 1000
const [lock, token] = ['test:lock:{l}', 'test:lock-token:{l}']
let store: RedisLockStore
beforeEach(async () => {
  await own.client.flushall()
  await setTime(start)
  store = new RedisLockStore(own.client, testKey)
})
const ttlIn = async (key: string, above: number, most: number): Promise<void> => {
  const ttlMs = await own.client.pttl(key)
  assert.ok(ttlMs > above && ttlMs <= most, `${key}: ${ttlMs} ms`)
}

describe('a lock in Redis', () => {
  test('has its owner, expires after `ttlMs`, and has the time in microseconds as its token', async () => {
    assert.deepEqual(await store.acquire('l', 'one', 600_000), { token: micros })
    assert.equal(await own.client.get(lock), 'one')
    await ttlIn(lock, 540_000, 600_000)
    assert.equal(await own.client.get(token), String(micros))
    await ttlIn(token, 7_140_000, 7_200_000)
  })

  test('is not free for another owner, who gets the remaining time', async () => {
    await store.acquire('l', 'one', 600_000)
    const attempt = await store.acquire('l', 'two', 1_000)
    assert.ok('heldForMs' in attempt && attempt.heldForMs > 540_000 && attempt.heldForMs <= 600_000)
    assert.equal(await own.client.get(lock), 'one')
    await ttlIn(lock, 540_000, 600_000)
    assert.equal(await own.client.get(token), String(micros))
  })

  test('is held for at most an hour', async () => {
    await own.client.set(lock, 'one', 'PX', 3_600_000)
    assert.ok('heldForMs' in (await store.acquire('l', 'two', 1_000)))
    for (const put of [
      () => own.client.set(lock, 'foreign', 'PX', 3_660_000),
      () => own.client.set(lock, 'foreign'),
      () => own.client.rpush(lock, 'foreign'),
    ]) {
      await own.client.del(lock)
      await put()
      assert.ok('token' in (await store.acquire('l', 'two', 1_000)))
      assert.equal(await own.client.get(lock), 'two')
    }
  })

  test('is renewed by its owner only', async () => {
    await store.acquire('l', 'one', 60_000)
    assert.equal(await store.renew('l', 'two', 600_000), false)
    await ttlIn(lock, 0, 60_000)
    assert.equal(await store.renew('l', 'one', 600_000), true)
    await ttlIn(lock, 540_000, 600_000)
    assert.equal(await store.renew('other', 'one', 600_000), false)
  })

  test('is released by its owner only', async () => {
    await store.acquire('l', 'one', 60_000)
    assert.equal(await store.release('l', 'two'), false)
    assert.equal(await own.client.get(lock), 'one')
    assert.equal(await store.release('l', 'one'), true)
    assert.equal(await own.client.exists(lock), 0)
    assert.equal(await store.release('l', 'one'), false)
  })

  test('has keys in one slot, whatever its name is', async () => {
    await store.acquire('}{ä', 'one', 60_000)
    const keys = (await own.client.keys('test:*')).sort()
    assert.deepEqual(keys, ['test:lock-token:{%7D%7B%C3%A4}', 'test:lock:{%7D%7B%C3%A4}'])
    assert.equal(await store.renew('}{ä', 'one', 60_000), true)
    assert.equal(await store.release('}{ä', 'one'), true)
  })
})

describe('the token of a lock in Redis', () => {
  const day = 86_400_000_000
  for (const [what, last, expected] of [
    ['is the time after an earlier token', micros - 1, micros],
    ['is one more than the token of this microsecond', micros, micros + 1],
    ['is one more than a token up to a day ahead, as after a clock that was set back', micros + day - 1, micros + day],
    ['is the time after a token a day ahead, which the fleet did not write', micros + day, micros],
    ['is the time after a token that is no number', 'x', micros],
    ['is the time after a token that is not finite', 'nan', micros],
  ] as const)
    test(what, async () => {
      await own.client.set(token, last)
      assert.deepEqual(await store.acquire('l', 'one', 1_000), { token: expected })
    })

  test('is the time if the key has another type', async () => {
    await own.client.rpush(token, '1')
    assert.deepEqual(await store.acquire('l', 'one', 1_000), { token: micros })
  })
})
