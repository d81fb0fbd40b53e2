import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, mock, test } from 'node:test'
import { MemoryLimitStore } from '../../../src/state/rate-limit/memory-store.ts'
import { RedisLimitStore } from '../../../src/state/rate-limit/redis-store.ts'
import type { LimitStore } from '../../../src/state/rate-limit/store.ts'
import { ownRedis, testKey } from '../own-redis.ts'
import { scriptClock } from '../redis-clock.ts'

const own = ownRedis()
const setRedisTime = scriptClock(own)
/** The begin of a slice, and its number for windows of a second. */
const start = 1_800_000_000_000
const first = start / 100

for (const engine of ['memory', 'Redis'])
  describe(`a window in ${engine}`, () => {
    let store: LimitStore
    let at: (ms: number) => Promise<void>
    afterEach(() => mock.timers.reset())
    beforeEach(async () => {
      mock.timers.enable({ apis: ['Date'], now: start })
      await own.client.flushall()
      at = async (ms) => {
        mock.timers.setTime(start + ms)
        await setRedisTime(start + ms)
      }
      await at(0)
      store = engine === 'memory' ? new MemoryLimitStore() : new RedisLimitStore(own.client, testKey)
    })
    const take = async (max: number, counts = true, windowMs = 1_000): Promise<[number, number]> => {
      const { count, resetMs } = await store.take('k', windowMs, max, counts)
      return [count, resetMs]
    }

    test('ends a tenth of its length after the oldest request would leave it', async () => {
      await at(50)
      assert.deepEqual(await take(2), [1, 1_050])
      await at(150)
      assert.deepEqual(await take(2), [2, 950])
      assert.deepEqual(await take(2), [3, 950])
      await at(1_099)
      assert.deepEqual(await take(2), [3, 1])
      await at(1_100)
      assert.deepEqual(await take(2), [2, 100])
      await at(1_199)
      assert.deepEqual(await take(2), [3, 1])
      await at(1_200)
      assert.deepEqual(await take(2), [2, 1_000])
    })

    test('is empty when all requests have left it', async () => {
      await take(2)
      await take(2)
      await at(60_000)
      assert.deepEqual(await take(2, false), [0, 1_100])
      assert.deepEqual(await take(2), [1, 1_100])
    })

    test('does not count reads and rejected requests', async () => {
      assert.deepEqual(await take(1, false), [0, 1_100])
      assert.deepEqual(await take(1), [1, 1_100])
      assert.deepEqual(await take(1, false), [1, 1_100])
      await at(500)
      for (let i = 0; i < 5; i++) assert.deepEqual(await take(1), [2, 600])
      assert.deepEqual(await take(3, false), [1, 600])
      await at(1_100)
      assert.deepEqual(await take(1), [1, 1_100])
    })

    test('has slices of whole milliseconds', async () => {
      const width = 101
      await at(7)
      const slice = Math.floor((start + 7) / width)
      assert.deepEqual(await take(9, true, 1_001), [1, (slice + 11) * width - start - 7])
    })
  })

describe('counts in Redis', () => {
  const key = 'test:limit:{1000 k}'
  let store: RedisLimitStore
  beforeEach(async () => {
    await own.client.flushall()
    await setRedisTime(start)
    store = new RedisLimitStore(own.client, testKey)
  })
  const count = async (counts = true): Promise<number> => (await store.take('k', 1_000, 100, counts)).count

  test('expire when all slices have left the window', async () => {
    await store.take('k', 600_000, 10, true)
    const ttlMs = await own.client.pttl('test:limit:{600000 k}')
    assert.ok(ttlMs > 600_000 && ttlMs <= 660_000, `${ttlMs}`)
  })

  test('are not written by reads', async () => {
    assert.equal(await count(false), 0)
    assert.equal(await own.client.exists(key), 0)
  })

  test('have one field per slice, and lose those that have left the window', async () => {
    await own.client.hset(key, { [first - 11]: 5, [first - 10]: 6 })
    assert.equal(await count(), 7)
    assert.deepEqual(await own.client.hgetall(key), { [first - 10]: '6', [first]: '1' })
  })

  test('ignore and remove fields that the fleet did not write', async () => {
    await own.client.hset(key, { x: 5, [first - 1]: 'x', [first - 2]: -1, [first + 11]: 5 })
    assert.equal(await count(), 1)
    assert.deepEqual(await own.client.hgetall(key), { [first]: '1' })
  })

  test('include those of a clock that was set back by less than a window', async () => {
    await own.client.hset(key, { [first + 10]: 5, [first]: 0 })
    assert.equal(await count(), 6)
  })

  test('replace a value of another type', async () => {
    await own.client.set(key, 'text')
    assert.equal(await count(), 1)
    assert.deepEqual(await own.client.hgetall(key), { [first]: '1' })
  })
})
