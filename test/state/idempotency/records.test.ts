import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Redis } from 'ioredis'
import { MemoryRecords, type Records, RedisRecords } from '../../../src/state/idempotency/records.ts'
import { startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

let client: Redis
before(async () => {
  client = new Redis((await startRedis()).url, { enableAutoPipelining: true })
})
after(() => client.disconnect())

const long = 60_000
let keys = 0
const newKey = (): string => `key ${keys++}`

function recordsContract(name: string, open: () => Records): void {
  describe(name, () => {
    let records: Records
    before(() => {
      records = open()
    })

    test('the first one passes, the others learn what became of it', async () => {
      const key = newKey()
      assert.deepEqual(await records.claim(key, 'p', 'a', long), { is: 'first' })
      assert.deepEqual(await records.claim(key, 'p', 'b', long), { is: 'in flight', by: 'a' })
      assert.deepEqual(await records.claim(key, 'q', 'b', long), { is: 'another request' })
      assert.equal(await records.keep(key, 'p', 'a', '{"answer": "a b\\n"}', long), true)
      assert.deepEqual(await records.claim(key, 'p', 'b', long), { is: 'answered', answer: '{"answer": "a b\\n"}' })
      assert.deepEqual(await records.claim(key, 'q', 'b', long), { is: 'another request' })
    })

    test('of many at once, one is the first', async () => {
      const key = newKey()
      const claims = await Promise.all(Array.from({ length: 100 }, (_, n) => records.claim(key, 'p', `${n}`, long)))
      assert.equal(claims.filter(({ is }) => is === 'first').length, 1)
      assert.equal(claims.filter(({ is }) => is === 'in flight').length, 99)
    })

    test('what is released may be tried again', async () => {
      const key = newKey()
      await records.claim(key, 'p', 'a', long)
      await records.release(key, 'p', 'a')
      assert.deepEqual(await records.claim(key, 'q', 'b', long), { is: 'first' })
    })

    test('only the holder keeps, renews or releases', async () => {
      const key = newKey()
      await records.claim(key, 'p', 'a', long)
      assert.equal(await records.keep(key, 'p', 'b', 'x', long), false)
      assert.equal(await records.keep(key, 'q', 'a', 'x', long), false)
      await records.release(key, 'p', 'b')
      await records.renew(key, 'p', 'b', 1)
      assert.deepEqual(await records.claim(key, 'p', 'b', long), { is: 'in flight', by: 'a' })
      await records.keep(key, 'p', 'a', 'x', long)
      await records.release(key, 'p', 'a')
      assert.equal(await records.keep(key, 'p', 'a', 'y', long), false)
      assert.deepEqual(await records.claim(key, 'p', 'b', long), { is: 'answered', answer: 'x' })
    })

    test('a lock that nobody renews runs out, and its holder has lost it', async () => {
      const key = newKey()
      await records.claim(key, 'p', 'a', 50)
      await until(async () => (await records.claim(key, 'p', 'b', long)).is === 'first')
      assert.equal(await records.keep(key, 'p', 'a', 'x', long), false)
      assert.equal(await records.keep(key, 'p', 'b', 'y', long), true)
    })

    test('a lock that is renewed does not', async () => {
      const key = newKey()
      const start = performance.now()
      await Promise.all([records.claim(key, 'p', 'a', 500), records.renew(key, 'p', 'a', long)])
      await until(() => performance.now() - start > 600)
      assert.deepEqual(await records.claim(key, 'p', 'b', long), { is: 'in flight', by: 'a' })
    })

    test('an answer is forgotten after its time', async () => {
      const key = newKey()
      await records.claim(key, 'p', 'a', long)
      await records.keep(key, 'p', 'a', 'x', 50)
      await until(async () => (await records.claim(key, 'p', 'b', long)).is === 'first')
    })
  })
}

recordsContract('in memory', () => new MemoryRecords())
recordsContract('in Redis', () => new RedisRecords(client, (kind, id) => `test:${kind}:{${id}}`))

describe('in memory', () => {
  test('the oldest go when there are too many', async () => {
    const records = new MemoryRecords({ maxRecords: 3, maxBytes: 1_000 })
    for (const key of ['a', 'b', 'c', 'd']) await records.claim(key, 'p', 't', long)
    assert.equal(records.size, 3)
    assert.equal((await records.claim('d', 'p', 't', long)).is, 'in flight')
    assert.equal((await records.claim('a', 'p', 't', long)).is, 'first')
  })

  test('the oldest go when they are too large together', async () => {
    const records = new MemoryRecords({ maxRecords: 100, maxBytes: 10 })
    for (const key of ['a', 'b', 'c']) {
      await records.claim(key, 'p', 't', long)
      await records.keep(key, 'p', 't', 'xxxx', long)
    }
    assert.equal(records.size, 2)
    assert.equal((await records.claim('c', 'p', 't', long)).is, 'answered')
  })

  test('what has expired goes without being asked for', async () => {
    const records = new MemoryRecords()
    for (let n = 0; n < 100; n++) await records.claim(`${n}`, 'p', 't', 20)
    await until(async () => {
      await records.claim('last', 'p', 't', long)
      await records.renew('last', 'p', 't', long)
      return records.size === 1
    })
  })
})
