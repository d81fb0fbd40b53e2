import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { TieredCache } from '../../../src/state/cache/cache.ts'
import { MemoryCacheStore, usable } from '../../../src/state/cache/memory-store.ts'
import type { CacheOptions } from '../../../src/state/cache/options.ts'
import { jittered } from '../../../src/state/cache/single-flight.ts'
import type { SharedCacheStore, SharedRead, SharedWrite } from '../../../src/state/cache/store.ts'
import { argumentsKey, encode } from '../../../src/state/cache/value.ts'
import { liveObjects } from '../../helpers/live-objects.ts'
import { until } from '../../helpers/until.ts'
import { CachePeers, code, gate } from './contract.ts'

const minute = 60_000

/** A cache in memory, with a clock that the test sets. */
function start(t: TestContext, options: CacheOptions = {}) {
  const clock = { now: 5000 }
  t.mock.method(performance, 'now', () => clock.now)
  const peers = new CachePeers()
  t.after(() => peers.close())
  return { clock, peers, cache: peers.add(null, { errorBackoffMs: 500, ...options }) }
}

const fails = (): never => {
  throw new Error('out of order')
}
const turns = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await new Promise(setImmediate)
}

describe('a value in memory', () => {
  test('is fresh until its `ttlMs` is over', async (t) => {
    const { cache, clock } = start(t)
    await cache.set('k', 1, 100)
    clock.now += 99
    assert.equal(await cache.get('k'), 1)
    assert.equal(await cache.getOrSet('k', 100, () => 2), 1)
    clock.now += 1
    assert.equal(await cache.get('k'), undefined)
    assert.equal(await cache.getOrSet('k', 100, () => 2), 2)
  })

  test('of `null` or `undefined` is fresh for `negativeTtlMs`, or `ttlMs` if that is less', async (t) => {
    const { cache, clock } = start(t, { negativeTtlMs: 100 })
    let calls = 0
    const load = (): null => {
      calls++
      return null
    }
    await cache.getOrSet('k', 1000, load)
    clock.now += 99
    await cache.getOrSet('k', 1000, load)
    assert.equal(calls, 1)
    clock.now += 1
    await cache.getOrSet('k', 50, load)
    assert.equal(calls, 2)
    clock.now += 50
    await cache.getOrSet('k', 50, load)
    assert.equal(calls, 3)
  })

  test('is served stale while it is revalidated, and no longer than `staleWhileRevalidateMs`', async (t) => {
    const { cache, clock } = start(t)
    const options = { staleWhileRevalidateMs: 200 }
    for (const [later, expected] of [
      [299, 'old'],
      [300, 'new'],
    ] as const) {
      await cache.set('k', 'old', 100)
      clock.now += later
      assert.equal(await cache.getOrSet('k', 100, () => 'new', options), expected)
      await turns()
      assert.equal(await cache.get('k'), 'new')
    }
  })

  test('is served instead of an error, no longer than `staleIfErrorMs`, and not without it', async (t) => {
    const { cache, clock } = start(t)
    const options = { staleIfErrorMs: 200 }
    await cache.set('k', 'old', 100)
    clock.now += 299
    assert.equal(await cache.getOrSet('k', 100, fails, options), 'old')
    clock.now += 1
    await cache.set('k', 'old', 100)
    clock.now += 300
    await assert.rejects(cache.getOrSet('k', 100, fails, options), /out of order/)
    await cache.set('k', 'old', 100)
    clock.now += 100
    await assert.rejects(cache.getOrSet('k', 100, fails), /out of order/)
  })

  test('that is stale triggers no load within `errorBackoffMs` after a failed one', async (t) => {
    const { cache, clock } = start(t, { staleIfErrorMs: minute })
    let calls = 0
    const load = (): never => {
      calls++
      return fails()
    }
    await cache.set('k', 'old', 100)
    clock.now += 100
    await cache.getOrSet('k', 100, load)
    clock.now += 499
    assert.equal(await cache.getOrSet('k', 100, load), 'old')
    assert.equal(calls, 1)
    clock.now += 1
    assert.equal(await cache.getOrSet('k', 100, load), 'old')
    assert.equal(calls, 2)
  })

  test('is stored up to `maxValueBytes`, counted in bytes', async (t) => {
    const { cache, peers } = start(t, { maxValueBytes: 100 })
    const fits = `é${'x'.repeat(96)}`
    await cache.set('k', fits, minute)
    await assert.rejects(cache.set('k', `${fits}x`, minute), code('FLEET_ERR_CACHE_VALUE_TOO_LARGE'))
    assert.equal(await cache.get('k'), fits)
    for (const [value, kept] of [
      [`${fits}x`, undefined],
      [fits, fits],
    ] as const) {
      assert.equal(await cache.getOrSet('l', minute, () => value), value)
      assert.equal(await cache.get('l'), kept)
      assert.equal(peers.warnings.length, 1)
    }
  })

  test('has a key of 1 to `maxKeyLength` characters and a `ttlMs` of 1 ms to a year', async (t) => {
    const { cache } = start(t, { maxKeyLength: 5 })
    const invalid = code('FLEET_ERR_CACHE_KEY_INVALID')
    await cache.set('x'.repeat(5), 1, 1, { tags: ['x'.repeat(5)] })
    for (const key of ['', 'x'.repeat(6), '}', 1]) {
      await assert.rejects(cache.set(key as string, 1, 1), invalid)
      await assert.rejects(cache.get(key as string), invalid)
      await assert.rejects(cache.delete(key as string), invalid)
      await assert.rejects(cache.deleteByTag(key as string), invalid)
    }
    await assert.rejects(cache.set('a', 1, 1, { tags: ['x'.repeat(6)] }), invalid)
    assert.throws(() => cache.wrap(fails, { name: '}', ttlMs: 1 }), /a key must be a string of 1 to 5 characters/)
    await cache.set('a', 1, 31_536_000_000)
    for (const ttlMs of [0, 31_536_000_001, 1.5, Number.NaN, undefined])
      await assert.rejects(cache.set('a', 1, ttlMs as number), code('FLEET_ERR_OPTION_INVALID'))
  })

  test('is loaded with a signal that aborts at `hardTimeoutMs`, and not once the loader has ended', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const { cache } = start(t, { hardTimeoutMs: 1_000 })
    const signals: AbortSignal[] = []
    const slow = gate(1)
    const load = (end: () => unknown) => (context: { signal: AbortSignal }) => {
      signals.push(context.signal)
      return end()
    }
    await cache.getOrSet(
      'fast',
      minute,
      load(() => 1),
    )
    await assert.rejects(cache.getOrSet('failing', minute, load(fails)), /out of order/)
    const late = assert.rejects(cache.getOrSet('slow', minute, load(slow.load)), code('FLEET_ERR_CACHE_TIMEOUT'))
    await turns()
    t.mock.timers.tick(1_000)
    await late
    assert.deepEqual(
      signals.map(({ aborted }) => aborted),
      [false, false, true],
    )
    slow.open()
  })

  test('is usable while it has been stale for less than the window', (t) => {
    t.mock.method(performance, 'now', () => 1000)
    const entry = (expiresAt: number) => ({ expiresAt }) as Parameters<typeof usable>[0]
    assert.deepEqual([usable(entry(1001), 0), usable(entry(1000), 0)], [true, false])
    assert.deepEqual([usable(entry(901), 100), usable(entry(900), 100)], [true, false])
  })

  test('fits up to `maxItems` and `maxBytes`', () => {
    const entry = (bytes: number, tags: string[] = []) => ({
      promise: Promise.resolve(),
      tags,
      bytes,
      expiresAt: 0,
      freshUntil: 0,
      visited: false,
    })
    const memory = new MemoryCacheStore({ maxItems: 2, maxBytes: 10 })
    memory.set('a', entry(4))
    memory.set('b', entry(6))
    assert.deepEqual([memory.size, memory.bytes], [2, 10])
    memory.set('b', entry(7))
    assert.deepEqual([memory.get('a'), memory.bytes], [undefined, 7])
    for (const key of ['c', 'd']) memory.set(key, entry(0))
    assert.deepEqual([memory.size, memory.get('b')], [2, undefined])
    memory.set('whole', entry(10))
    assert.equal(memory.bytes, 10)
    memory.set('whole', entry(11))
    assert.equal(memory.get('whole'), undefined, 'an older value is not kept')
  })

  test('expires early by at most its share of `jitter`', (t) => {
    const random = t.mock.method(Math, 'random', () => 0)
    assert.equal(jittered(1000, 0.1), 1000)
    random.mock.mockImplementation(() => 0.999_999)
    assert.deepEqual([jittered(1000, 0.1), jittered(1000, 0), jittered(1, 1)], [901, 1000, 1])
  })
})

test('arguments have one key if they are equal, and never share one otherwise', () => {
  const key = (...args: unknown[]) => argumentsKey('f', args)
  assert.equal(key({ a: 1, b: [2] }), key({ b: [2], a: 1 }))
  const distinct = [
    [],
    [null],
    [undefined],
    [0],
    [-0],
    ['0'],
    [0n],
    [1],
    ['1'],
    [[1]],
    [1, 2],
    [[1, 2]],
    [{}],
    [{ a: undefined }],
    [[]],
    [new Date(0)],
    [new Map()],
    [new Set()],
    [true],
    ['true'],
    ['a', 'b'],
    ['a,b'],
    [Number.NaN],
  ]
  assert.equal(new Set(distinct.map((args) => key(...args))).size, distinct.length)
  assert.equal(encode('k', undefined).json, '')
  assert.ok(Object.is(encode('k', -0).value, -0))
})

/** A shared store whose reads the test settles. */
function sharedWith(read: () => Promise<SharedRead>) {
  const filled: (SharedWrite | undefined)[] = []
  const store: SharedCacheStore = {
    read,
    put: async () => undefined,
    fill: async (_key, _token, value) => {
      filled.push(value)
      return false
    },
    renew: async () => undefined,
    delete: async () => undefined,
    stamps: async () => ({}),
    deleteStamp: async () => undefined,
  }
  return { store, filled }
}
const found = (value: string, freshMs: number) => ({ id: 'x'.repeat(16), value, bytes: 5, stamps: {}, freshMs })

describe('a value in Redis', () => {
  test('that is stale is served at once if it is found after `softTimeoutMs`', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const reply = Promise.withResolvers<SharedRead>()
    const { store } = sharedWith(() => reply.promise)
    const cache = new CachePeers().add(store, { softTimeoutMs: 30, staleIfErrorMs: minute })
    const slow = gate('new')
    const value = cache.getOrSet('k', minute, slow.load)
    t.mock.timers.tick(30)
    reply.resolve({ found: found('old', -1), leased: true })
    assert.equal(await value, 'old')
    slow.open()
  })

  test('that is stale is not served before `softTimeoutMs` while a loader runs', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const { store } = sharedWith(async () => ({ found: found('old', -1), leased: true }))
    const cache = new CachePeers().add(store, { softTimeoutMs: 30, staleIfErrorMs: minute })
    const slow = gate('new')
    let served: unknown
    const value = cache.getOrSet('k', minute, slow.load).then((it) => (served = it))
    t.mock.timers.tick(29)
    await turns()
    assert.equal(served, undefined)
    t.mock.timers.tick(1)
    assert.equal(await value, 'old')
    slow.open()
  })

  test('that is stale is not served with a `softTimeoutMs` of 0 while a loader runs', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const { store } = sharedWith(async () => ({ found: found('old', -1), leased: true }))
    const cache = new CachePeers().add(store, { staleIfErrorMs: minute, hardTimeoutMs: minute })
    const slow = gate('new')
    const value = cache.getOrSet('k', minute, slow.load)
    await turns()
    t.mock.timers.tick(minute - 1)
    slow.open()
    assert.equal(await value, 'new')
  })

  test('that another instance loads is read again once its message arrives', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    let reply: SharedRead = { leased: false }
    const { store } = sharedWith(async () => reply)
    const cache = new CachePeers().add(store)
    let value: unknown
    void cache.getOrSet('k', minute, () => 'own').then((it) => (value = it))
    await turns()
    reply = { found: found('shared', 1), leased: false }
    cache.receive({ kind: 'filled', name: 'k', from: 'another' })
    await turns()
    assert.equal(value, 'shared')
  })

  test('is fresh for more than 0 ms, and is loaded otherwise', async () => {
    for (const [freshMs, expected] of [
      [1, 'old'],
      [0, 'new'],
    ] as const) {
      const { store, filled } = sharedWith(async () => ({ found: found('old', freshMs), leased: freshMs <= 0 }))
      const cache = new CachePeers().add(store)
      assert.equal(await cache.get('k'), freshMs > 0 ? 'old' : undefined)
      const other = new CachePeers().add(store)
      assert.equal(await other.getOrSet('k', minute, () => 'new', { staleIfErrorMs: 70 }), expected)
      const write = filled.at(-1)
      assert.deepEqual(write && [write.freshMs, write.keepMs], freshMs > 0 ? undefined : [minute, 70])
    }
  })

  test('that another instance replaces while it is set is not kept in memory', async () => {
    const { store } = sharedWith(async () => ({ found: found('newer', minute), leased: false }))
    const cache = new CachePeers().add(store)
    store.put = async () => cache.receive({ kind: 'key', name: 'k', from: 'another' })
    await cache.set('k', 'older', minute)
    assert.equal(await cache.get('k'), 'newer')
  })

  test('that is read while it is deleted is not kept in memory', async () => {
    for (const [command, remove] of [
      ['delete', (cache: TieredCache) => cache.delete('k')],
      ['deleteStamp', (cache: TieredCache) => cache.deleteByTag('t')],
    ] as const) {
      let stored: SharedRead = { found: { ...found('old', minute), stamps: { t: 'stamp' } }, leased: false }
      const { store } = sharedWith(async () => stored)
      store.stamps = async (tags) => Object.fromEntries(tags.map((tag) => [tag, 'stamp']))
      const cache = new CachePeers().add(store)
      store[command] = async () => {
        assert.equal(await cache.get('k'), 'old')
        stored = { leased: false }
      }
      await remove(cache)
      assert.equal(await cache.get('k'), undefined, command)
    }
  })

  test('has stamps of its tags that live as long as the value, and as the load before it', async () => {
    const lives: number[] = []
    const { store } = sharedWith(async () => ({ leased: true }))
    store.stamps = async (tags, lifeMs) => {
      lives.push(lifeMs)
      return Object.fromEntries(tags.map((tag) => [tag, 'stamp']))
    }
    const cache = new CachePeers().add(store)
    await cache.set('k', 1, minute, { tags: ['t'] })
    assert.deepEqual(lives.splice(0), [minute])
    const times = { staleWhileRevalidateMs: 70, staleIfErrorMs: 80, hardTimeoutMs: 900 }
    await cache.getOrSet('l', minute, () => 1, { tags: ['t'], ...times })
    assert.deepEqual(lives, [minute + 80 + 900])
  })

  test('has a lease that is renewed while it is loaded, and not once the loader has ended', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] })
    let renewals = 0
    const { store } = sharedWith(async () => ({ leased: true }))
    store.renew = async () => void renewals++
    const cache = new CachePeers().add(store, { leaseMs: 3_000 })
    const ends: [string, (load: PromiseWithResolvers<number>) => void][] = [
      ['loaded', ({ resolve }) => resolve(1)],
      ['failed', ({ reject }) => reject(new Error('out of order'))],
    ]
    for (const [key, end] of ends) {
      renewals = 0
      const slow = Promise.withResolvers<number>()
      const loading = cache.getOrSet(key, minute, () => slow.promise).catch(() => {})
      await turns()
      t.mock.timers.tick(3_000)
      assert.equal(renewals, 3, key)
      end(slow)
      await loading
      t.mock.timers.tick(minute)
      assert.equal(renewals, 3, key)
    }
  })
})

test('a read and a load leave nothing in memory but the value', async () => {
  class Mark {}
  const { store } = sharedWith(async () => ({ found: found('shared', minute), leased: false }))
  for (const shared of [null, store]) {
    const cache = new CachePeers().add(shared)
    const begin = cache.store.begin.bind(cache.store)
    cache.store.begin = (read) => begin(Object.assign(read, { mark: new Mark() }))
    for (let i = 0; i < 50; i++) {
      await cache.get(`read ${i}`)
      await cache.getOrSet(`loaded ${i}`, minute, () => 'own')
      await cache.getOrSet(`failed ${i}`, minute, fails).catch(() => {})
    }
    await until(() => liveObjects(Mark) <= 5, { what: 'the reads to be free' })
    assert.equal(await cache.get('loaded 0'), shared ? 'shared' : 'own')
  }
})
