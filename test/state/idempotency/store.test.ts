import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { MemoryIdempotencyStore } from '../../../src/state/idempotency/memory-store.ts'
import { RedisIdempotencyStore } from '../../../src/state/idempotency/redis-store.ts'
import type { IdempotencyStore } from '../../../src/state/idempotency/store.ts'
import { until } from '../../helpers/until.ts'
import { ownRedis, testKey } from '../own-redis.ts'

const own = ownRedis({ enableAutoPipelining: true })

const long = 60_000
let keys = 0
const newKey = (): string => `key ${keys++}`

function storeContract(name: string, open: () => IdempotencyStore): void {
  describe(name, () => {
    let store: IdempotencyStore
    before(() => {
      store = open()
    })

    test('lets the first request pass and reports its state to the others', async () => {
      const key = newKey()
      assert.deepEqual(await store.claim(key, 'p', 'a', long), { status: 'first' })
      assert.deepEqual(await store.claim(key, 'p', 'b', long), { status: 'in_flight', token: 'a' })
      assert.deepEqual(await store.claim(key, 'q', 'b', long), { status: 'other_request' })
      assert.equal(await store.complete(key, 'p', 'a', '{"answer": "a b\\n"}', long), true)
      assert.deepEqual(await store.claim(key, 'p', 'b', long), {
        status: 'completed',
        response: '{"answer": "a b\\n"}',
      })
      assert.deepEqual(await store.claim(key, 'q', 'b', long), { status: 'other_request' })
    })

    test('lets one of many concurrent requests pass', async () => {
      const key = newKey()
      const claims = await Promise.all(Array.from({ length: 100 }, (_, n) => store.claim(key, 'p', `${n}`, long)))
      assert.equal(claims.filter(({ status }) => status === 'first').length, 1)
      assert.equal(claims.filter(({ status }) => status === 'in_flight').length, 99)
    })

    test('lets a released key be claimed again', async () => {
      const key = newKey()
      await store.claim(key, 'p', 'a', long)
      await store.release(key, 'p', 'a')
      assert.deepEqual(await store.claim(key, 'q', 'b', long), { status: 'first' })
    })

    test('lets only the owner complete, renew or release a record', async () => {
      const key = newKey()
      await store.claim(key, 'p', 'a', long)
      assert.equal(await store.complete(key, 'p', 'b', 'x', long), false)
      assert.equal(await store.complete(key, 'q', 'a', 'x', long), false)
      await store.release(key, 'p', 'b')
      await store.renew(key, 'p', 'b', 1)
      assert.deepEqual(await store.claim(key, 'p', 'b', long), { status: 'in_flight', token: 'a' })
      await store.complete(key, 'p', 'a', 'x', long)
      await store.release(key, 'p', 'a')
      assert.equal(await store.complete(key, 'p', 'a', 'y', long), false)
      assert.deepEqual(await store.claim(key, 'p', 'b', long), { status: 'completed', response: 'x' })
    })

    test('expires a lock that is not renewed', async () => {
      const key = newKey()
      await store.claim(key, 'p', 'a', 50)
      await until(async () => (await store.claim(key, 'p', 'b', long)).status === 'first')
      assert.equal(await store.complete(key, 'p', 'a', 'x', long), false)
      assert.equal(await store.complete(key, 'p', 'b', 'y', long), true)
    })

    test('keeps a lock that is renewed', async () => {
      const key = newKey()
      const start = performance.now()
      await Promise.all([store.claim(key, 'p', 'a', 500), store.renew(key, 'p', 'a', long)])
      await until(() => performance.now() - start > 600)
      assert.deepEqual(await store.claim(key, 'p', 'b', long), { status: 'in_flight', token: 'a' })
    })

    test('expires a response after its ttlMs', async () => {
      const key = newKey()
      await store.claim(key, 'p', 'a', long)
      await store.complete(key, 'p', 'a', 'x', 50)
      await until(async () => (await store.claim(key, 'p', 'b', long)).status === 'first')
    })
  })
}

storeContract('in memory', () => new MemoryIdempotencyStore())
storeContract('in Redis', () => new RedisIdempotencyStore(own.client, testKey))

describe('in memory', () => {
  test('drops the oldest store beyond maxRecords', async () => {
    const store = new MemoryIdempotencyStore({ maxRecords: 3, maxBytes: 1_000 })
    for (const key of ['a', 'b', 'c', 'd']) await store.claim(key, 'p', 't', long)
    assert.equal(store.size, 3)
    assert.equal((await store.claim('d', 'p', 't', long)).status, 'in_flight')
    assert.equal((await store.claim('a', 'p', 't', long)).status, 'first')
  })

  test('drops the oldest store beyond maxBytes', async () => {
    const store = new MemoryIdempotencyStore({ maxRecords: 100, maxBytes: 10 })
    for (const key of ['a', 'b', 'c']) {
      await store.claim(key, 'p', 't', long)
      await store.complete(key, 'p', 't', 'xxxx', long)
    }
    assert.equal(store.size, 2)
    assert.equal((await store.claim('c', 'p', 't', long)).status, 'completed')
  })

  test('removes expired store without a read', async () => {
    const store = new MemoryIdempotencyStore()
    for (let n = 0; n < 100; n++) await store.claim(`${n}`, 'p', 't', 20)
    await until(async () => {
      await store.claim('last', 'p', 't', long)
      await store.renew('last', 'p', 't', long)
      return store.size === 1
    })
  })
})
