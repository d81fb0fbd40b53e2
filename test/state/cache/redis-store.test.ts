import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { RedisCacheStore } from '../../../src/state/cache/redis-store.ts'
import { ownRedis, testKey } from '../own-redis.ts'

const own = ownRedis()
const [value, lease, tag] = ['test:cache:{k}', 'test:cache-lease:{k}', 'test:cache-tag:{t}']
const [one, two] = ['1'.repeat(16), '2'.repeat(16)]
let store: RedisCacheStore
beforeEach(async () => {
  await own.client.flushall()
  store = new RedisCacheStore(own.client, testKey)
})
const ttlIn = async (key: string, above: number, most: number): Promise<void> => {
  const ttlMs = await own.client.pttl(key)
  assert.ok(ttlMs > above && ttlMs <= most, `${key}: ${ttlMs} ms`)
}
const write = (json: string, freshMs = 600_000, keepMs = 600_000, stamps = {}) => ({ json, freshMs, keepMs, stamps })
const read = (token?: string, leaseMs = 60_000, reject?: string) =>
  store.read('k', { ...(token && { token, leaseMs }), ...(reject && { reject }) })
/** A value that has been stale since a minute. */
const putStale = (id = 'i'.repeat(16)) => own.client.set(value, `${id} 660000 {}\n"old"`, 'PX', 600_000)

describe('a cached value in Redis', () => {
  test('is stored while it is fresh and as long as it is kept stale', async () => {
    await store.put('k', write('"ü"', 600_000, 300_000, { t: 'stamp' }))
    await ttlIn(value, 840_000, 900_000)
    const { found, leased } = await read(one)
    const { freshMs = 0, id, ...rest } = found ?? {}
    assert.deepEqual([rest, leased], [{ value: 'ü', bytes: 4, stamps: { t: 'stamp' } }, false])
    assert.ok(freshMs > 540_000 && freshMs <= 600_000, `${freshMs}`)
    assert.match(String(id), /^[\w-]{16}$/)
    assert.equal(await own.client.exists(lease), 0, 'a fresh value needs no lease')
  })

  test('is read without a lease if no token is given', async () => {
    assert.deepEqual(await store.read('k'), { leased: false })
    await putStale()
    const { found, leased } = await store.read('k')
    assert.deepEqual([found?.value, leased], ['old', false])
    assert.equal(await own.client.exists(lease), 0)
  })

  test('is loaded by one reader if it is missing or stale', async () => {
    for (const [put, found] of [
      [() => own.client.del(value), undefined],
      [putStale, 'old'],
    ] as const) {
      await own.client.flushall()
      await put()
      const first = await read(one)
      assert.deepEqual([first.found?.value, first.leased], [found, true])
      assert.equal(await own.client.get(lease), one)
      await ttlIn(lease, 30_000, 60_000)
      for (let i = 0; i < 2; i++) {
        const second = await read(two)
        assert.deepEqual([second.found?.value, second.leased], [found, false])
        assert.equal(await own.client.get(lease), `${one}!`)
      }
      await ttlIn(lease, 30_000, 60_000)
    }
  })

  test('is stale when its remaining life is no longer than it is kept stale', async () => {
    await own.client.set(value, `${one} 600000 {}\n1`, 'PX', 600_000)
    const { found, leased } = await read(two)
    assert.deepEqual([leased, (found?.freshMs ?? 1) <= 0], [true, true])
    await putStale()
    const freshMs = (await store.read('k')).found?.freshMs ?? 0
    assert.ok(freshMs <= -60_000 && freshMs > -120_000, `${freshMs}`)
  })

  test('is absent if its id is rejected', async () => {
    await own.client.set(value, `${one} 0 {}\n1`, 'PX', 600_000)
    assert.equal((await read(undefined, 0, two)).found?.value, 1)
    assert.deepEqual(await read(undefined, 0, one), { leased: false })
    assert.deepEqual(await read(two, 60_000, one), { leased: true })
  })

  test('is absent in another format', async () => {
    const formats = [
      '',
      'text',
      `${one} 0 {}`,
      `${one} x {}\n1`,
      `short 0 {}\n1`,
      `${one} 0 []\n1`,
      `${one} 0 {"t":1}\n1`,
    ]
    for (const text of [...formats, `${one} 0 {"t"}\n1`, `${one} 0 {}\n{`]) {
      await own.client.flushall()
      await own.client.set(value, text, 'PX', 600_000)
      assert.equal((await store.read('k')).found, undefined, text)
      const { found, leased } = await read(two)
      assert.deepEqual([found, leased], [undefined, true], text)
    }
    await own.client.del(value, lease)
    await own.client.rpush(value, 'x')
    assert.deepEqual(await read(two), { leased: true })
  })

  test('may have 10,000 tags, and no more', async () => {
    for (const [tags, found] of [
      [10_000, 1],
      [10_001, undefined],
    ] as const) {
      const stamps = Object.fromEntries(Array.from({ length: tags }, (_, i) => [`t${i}`, 's']))
      await store.put('k', write('1', 600_000, 0, stamps))
      assert.equal((await store.read('k')).found?.value, found)
    }
  })

  test('ends the lease of an older load when it is put or deleted', async () => {
    for (const end of [() => store.put('k', write('2')), () => store.delete('k')]) {
      await own.client.flushall()
      await putStale()
      await read(one)
      await end()
      const before = await own.client.get(value)
      assert.equal(await own.client.exists(lease), 0)
      assert.equal(await store.fill('k', one, write('1')), false)
      assert.equal(await own.client.get(value), before)
    }
    assert.equal(await own.client.exists(value), 0)
  })
})

describe('a lease in Redis', () => {
  test('is filled by its owner, who learns whether others wait', async () => {
    await read(one)
    assert.equal(await store.fill('k', two, write('2')), false)
    assert.deepEqual([await own.client.get(lease), await own.client.exists(value)], [one, 0])
    assert.equal(await store.fill('k', one, write('1', 300_000, 300_000)), false)
    assert.deepEqual([(await store.read('k')).found?.value, await own.client.exists(lease)], [1, 0])
    await ttlIn(value, 540_000, 600_000)
    await store.delete('k')
    await read(one)
    await read(two)
    assert.equal(await store.fill('k', one, write('3')), true)
    assert.deepEqual([(await store.read('k')).found?.value, await own.client.exists(lease)], [3, 0])
  })

  test('ends without a value after a failed load', async () => {
    await putStale()
    await read(one)
    await store.fill('k', one)
    assert.deepEqual([(await store.read('k')).found?.value, await own.client.exists(lease)], ['old', 0])
  })

  test('is renewed by its owner only, also while others wait', async () => {
    await read(one)
    await store.renew('k', two, 600_000)
    await ttlIn(lease, 0, 60_000)
    await store.renew('k', one, 600_000)
    await ttlIn(lease, 540_000, 600_000)
    await read(two, 600_000)
    await store.renew('k', one, 60_000)
    await ttlIn(lease, 30_000, 60_000)
  })

  test('that never ends, or only in ten times its life, is replaced', async () => {
    await own.client.set(lease, two, 'PX', 600_000)
    assert.equal((await read(one, 60_000)).leased, false)
    await own.client.set(lease, two, 'PX', 660_000)
    assert.equal((await read(one, 60_000)).leased, true)
    await own.client.set(lease, two)
    assert.equal((await read(one, 60_000)).leased, true)
    assert.equal(await own.client.get(lease), one)
  })
})

describe('the stamp of a tag in Redis', () => {
  test('stays the same, and lives as long as the longest value that carries it', async () => {
    const { t: stamp, ...others } = await store.stamps(['t', 'u'], 60_000)
    assert.deepEqual(Object.keys(others), ['u'])
    assert.match(String(stamp), /^[\w-]{16}$/)
    await ttlIn(tag, 30_000, 60_000)
    assert.deepEqual(await store.stamps(['t'], 600_000), { t: stamp })
    await ttlIn(tag, 540_000, 600_000)
    assert.deepEqual(await store.stamps(['t'], 60_000), { t: stamp })
    await ttlIn(tag, 540_000, 600_000)
  })

  test('is another one after an invalidation', async () => {
    const { t, u } = await store.stamps(['t', 'u'], 60_000)
    await store.deleteStamp('t')
    const after = await store.stamps(['t', 'u'], 60_000)
    assert.notEqual(after.t, t)
    assert.equal(after.u, u)
  })

  test('has at most 64 characters', async () => {
    for (const [stamp, kept] of [
      ['s'.repeat(64), true],
      ['s'.repeat(65), false],
    ] as const) {
      await own.client.set(tag, stamp)
      const { t } = await store.stamps(['t'], 60_000)
      assert.equal(t === stamp, kept)
      assert.equal(await own.client.get(tag), t)
      await ttlIn(tag, 30_000, 60_000)
    }
  })
})
