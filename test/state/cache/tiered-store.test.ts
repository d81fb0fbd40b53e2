import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { CacheMessage } from '../../../src/state/cache/invalidation.ts'
import type { SharedCacheStore, SharedRead, SharedReadOptions } from '../../../src/state/cache/store.ts'
import { type CacheRead, TieredStore } from '../../../src/state/cache/tiered-store.ts'

const value = { json: '"x"', value: 'x', bytes: 3 }
const reading = (key = 'a', ...tags: string[]): CacheRead => ({ key, tags: new Set(tags), outdated: false })

function open(t: TestContext, isShared = true) {
  let now = 1_000
  t.mock.method(performance, 'now', () => now)
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const stamps: Record<string, string> = { red: 'r1', blue: 'b1' }
  const reads: SharedReadOptions[] = []
  const replies: SharedRead[] = []
  const shared = {
    isDown: false,
    async stamps(tags: readonly string[]) {
      return Object.fromEntries(tags.map((tag) => [tag, stamps[tag] ?? 'none']))
    },
    async read(_key: string, options: SharedReadOptions) {
      reads.push(options)
      return replies.shift() ?? { leased: false }
    },
    async delete() {
      if (shared.isDown) throw new Error('unavailable')
    },
    async deleteStamp() {
      if (shared.isDown) throw new Error('unavailable')
    },
  }
  const published: CacheMessage[] = []
  const store = new TieredStore(
    { maxItems: 10, maxBytes: 1_000, offlineTtlMs: 500 },
    isShared ? (shared as unknown as SharedCacheStore) : null,
    async (message) => void published.push(message),
  )
  /** How long the value of a key is fresh from now on, ms. */
  const freshMs = (key = 'a'): number | undefined => {
    const entry = store.memory.get(key)
    return entry && Math.max(0, entry.freshUntil - now)
  }
  const found = (given: Record<string, string>, id = 'i'.repeat(16)) => ({
    ...{ id, value: 'x', bytes: 3, stamps: given, freshMs: 9_000 },
  })
  return {
    ...{ store, shared, stamps, reads, replies, published, freshMs, found },
    pass(ms: number): void {
      now += ms
      t.mock.timers.tick(ms)
    },
    readShared: (read: CacheRead, options: SharedReadOptions = {}) =>
      store.read(shared as unknown as SharedCacheStore, read, options, 60_000),
  }
}

describe('a value in memory', () => {
  test('is fresh for `offlineTtlMs` at most while changes of other instances are not received', (t) => {
    const { store, freshMs } = open(t)
    store.remember(reading(), value, [], 9_000, false)
    assert.equal(freshMs(), 500)
    store.remember(reading(), value, [], 400, false)
    assert.equal(freshMs(), 400)
    store.setConnected(true)
    assert.equal(freshMs(), 0, 'a change may have been missed')
    store.remember(reading(), value, [], 9_000, false)
    assert.equal(freshMs(), 9_000)
    store.setConnected(false)
    assert.equal(freshMs(), 0)
    store.remember(reading(), value, [], 9_000, false)
    assert.equal(freshMs(), 500)
  })

  test('is fresh for `offlineTtlMs` at most if it is not in Redis too, where others could delete it', (t) => {
    const { store, freshMs } = open(t)
    store.setConnected(true)
    store.remember(reading(), value, [], 9_000, true)
    assert.equal(freshMs(), 500)
    store.remember(reading(), value, [], 400, true)
    assert.equal(freshMs(), 400)
  })

  test('is fresh for its whole life without Redis', (t) => {
    const { store, freshMs } = open(t, false)
    store.remember(reading(), value, [], 9_000, true)
    assert.equal(freshMs(), 9_000)
  })

  test('is not that of a read whose key or tag was invalidated meanwhile, nor of one during a loss of the connection', async (t) => {
    const { store, freshMs } = open(t)
    store.setConnected(true)
    const keep = (read: CacheRead): void => void store.remember(read, value, [...read.tags], 9_000, false)
    for (const [change, isKept] of [
      [() => store.invalidate('key', 'a'), false],
      [() => store.invalidate('key', 'b'), true],
      [() => store.invalidate('tag', 'red'), false],
      [() => store.invalidate('tag', 'a'), true],
      [() => store.setConnected(false), false],
      [() => store.setConnected(true), false],
    ] as const) {
      store.memory.delete('a')
      const read = reading('a', 'red')
      store.begin(read)
      change()
      store.end(read)
      keep(read)
      assert.equal(freshMs() !== undefined, isKept)
    }
    const over = reading('a', 'red')
    store.begin(over)
    store.end(over)
    store.invalidate('key', 'a')
    keep(over)
    assert.equal(freshMs(), 9_000, 'a read that is over')
  })

  test('is deleted with its key and its tags', (t) => {
    const { store, freshMs } = open(t)
    for (const key of ['a', 'b']) store.remember(reading(key), value, ['red'], 9_000, false)
    store.invalidate('key', 'a')
    assert.deepEqual([freshMs('a'), freshMs('b')], [undefined, 500])
    store.invalidate('tag', 'red')
    assert.equal(freshMs('b'), undefined)
  })
})

describe('a value in Redis', () => {
  test('counts while all its tags have the stamps that it was stored with', async (t) => {
    const { replies, stamps, found, readShared } = open(t)
    const read = reading('a', 'red')
    replies.push({ found: found({ red: 'r1', blue: 'b1' }), leased: false })
    assert.equal((await readShared(read)).found?.value, 'x')
    assert.deepEqual([...read.tags], ['red', 'blue'], 'an invalidation of its other tag is noticed')
    for (const tag of ['red', 'blue']) {
      const before = stamps[tag] as string
      stamps[tag] = 'changed'
      replies.push({ found: found({ red: 'r1', blue: 'b1' }), leased: false })
      assert.deepEqual(Object.keys(await readShared(reading('a', 'red'))), ['leased', 'stamps'], tag)
      stamps[tag] = before
    }
  })

  test('that is outdated is read again without it, to get the lease', async (t) => {
    const { reads, replies, found, readShared } = open(t)
    replies.push({ found: found({ red: 'old' }, 'outdated'), leased: false }, { leased: true })
    const { leased, found: none } = await readShared(reading(), { token: 'me', leaseMs: 5 })
    assert.deepEqual([leased, none], [true, undefined])
    assert.deepEqual(reads, [
      { token: 'me', leaseMs: 5 },
      { token: 'me', leaseMs: 5, reject: 'outdated' },
    ])
    replies.push({ found: found({ red: 'old' }, 'outdated'), leased: true })
    assert.equal((await readShared(reading(), { token: 'me' })).leased, true)
    assert.equal(reads.length, 3, 'it has the lease already')
  })

  test('is not read while its invalidation is pending, which is sent again every second', async (t) => {
    const { store, shared, published, replies, found, pass, readShared } = open(t)
    const { invalidations } = store
    assert.ok(invalidations)
    shared.isDown = true
    await invalidations.send('key', 'a')
    await invalidations.send('tag', 'blue')
    await assert.rejects(readShared(reading('a')), /pending/)
    await assert.rejects(readShared(reading('b', 'blue')), /pending/)
    replies.push({ found: found({ blue: 'b1' }), leased: false })
    await assert.rejects(readShared(reading('b')), /pending/, 'a tag that only the value has')
    await readShared(reading('c', 'red'))
    pass(1_000)
    shared.isDown = false
    for (let i = 0; i < 9; i++) await Promise.resolve()
    pass(999)
    assert.deepEqual(published, [])
    pass(1)
    for (let i = 0; i < 20; i++) await Promise.resolve()
    assert.deepEqual(
      published.map(({ kind, name }) => `${kind} ${name}`),
      ['key a', 'tag blue'],
    )
    await readShared(reading('a', 'blue'))
    invalidations.close()
  })

  test('has a pending invalidation until the last one is sent, although an earlier one was', async (t) => {
    const { store, shared, pass } = open(t)
    const { invalidations } = store
    shared.isDown = true
    await invalidations?.send('key', 'a')
    const reply = Promise.withResolvers<void>()
    const lost = shared.delete
    shared.delete = () => reply.promise
    pass(1_000)
    shared.delete = lost
    await invalidations?.send('key', 'a')
    reply.resolve()
    for (let i = 0; i < 20; i++) await Promise.resolve()
    assert.equal(invalidations?.isPending('key', 'a'), true)
    shared.isDown = false
    pass(1_000)
    for (let i = 0; i < 20; i++) await Promise.resolve()
    assert.equal(invalidations?.isPending('key', 'a'), false)
  })

  test('keeps at most 10,000 pending invalidations, and drops the oldest', async (t) => {
    const { store, shared } = open(t)
    const { invalidations } = store
    shared.isDown = true
    for (let i = 0; i < 10_001; i++) await invalidations?.send('key', `${i}`)
    assert.deepEqual(
      ['0', '1', '10000'].map((name) => invalidations?.isPending('key', name)),
      [false, true, true],
    )
    assert.equal(invalidations?.isPending('tag', '1'), false)
    invalidations?.close()
    assert.equal(invalidations?.isPending('key', '1'), false)
  })
})
