import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { FleetError, type FleetErrorCode } from '../../../src/base/errors.ts'
import { resolveOptions } from '../../../src/base/options.ts'
import { TieredCache } from '../../../src/state/cache/cache.ts'
import type { CacheMessage } from '../../../src/state/cache/invalidation.ts'
import { type CacheOptions, cacheOptions } from '../../../src/state/cache/options.ts'
import type { SharedCacheStore } from '../../../src/state/cache/store.ts'
import { until } from '../../helpers/until.ts'

export const code = (expected: FleetErrorCode) => (error: unknown) =>
  error instanceof FleetError && error.code === expected

/** The caches of one fleet, connected by a synchronous broadcast. */
export class CachePeers {
  readonly warnings: string[] = []
  readonly #caches: TieredCache[] = []

  add(shared: SharedCacheStore | null, options: CacheOptions = {}): TieredCache {
    const cache = new TieredCache(resolveOptions('cache', cacheOptions, { jitter: 0 }, options), {
      shared,
      publish: async (message: CacheMessage) => {
        for (const peer of this.#caches) peer.receive(message)
      },
      warn: (_, message) => this.warnings.push(message),
    })
    cache.store.setConnected(true)
    this.#caches.push(cache)
    return cache
  }

  close(): void {
    for (const cache of this.#caches) cache.store.invalidations?.close()
  }
}

/** A loader that counts its calls and returns once `open()` is called. */
export function gate<T>(value: T): { load: () => Promise<T>; open: () => void; calls: number } {
  const { promise, resolve } = Promise.withResolvers<void>()
  const gated = {
    calls: 0,
    open: resolve,
    load: async () => {
      gated.calls++
      await promise
      return value
    },
  }
  return gated
}

const long = 60_000
const short = 30
let keys = 0
/** A new key for each test, because the store is not emptied in between. */
const newKey = (): string => `key ${keys++}`

class Own {
  readonly a = 1
}
const cycle: { self?: unknown } = {}
cycle.self = [cycle]
/** Values that no text stands for. */
const notData = (): unknown[] => [
  ...[() => 1, Symbol('s'), new Own(), cycle, new Error('e'), /x/, new URL('http://a/'), Promise.resolve()],
  ...[new Uint8Array(1), Buffer.from('a'), new (class extends Date {})(), new (class extends Map {})(), new WeakMap()],
  ...[Object(1), { [Symbol('key')]: 1 }, { toJSON: () => 1 }, new Proxy(new Own(), {})],
]

/** The contract of every cache, with or without Redis, and while Redis fails. */
export function cacheContract(
  name: string,
  open: () => Promise<SharedCacheStore | null>,
  base: CacheOptions = {},
): void {
  describe(name, () => {
    const peers = new CachePeers()
    let shared: SharedCacheStore | null
    let cache: TieredCache
    // Keeps values fresh while Redis fails, so that the same tests apply.
    const create = (options: CacheOptions = {}): TieredCache =>
      peers.add(shared, { offlineTtlMs: long, errorBackoffMs: 0, ...base, ...options })
    before(async () => {
      shared = await open()
      cache = create()
    })
    after(() => peers.close())

    /** Loads a value that expires soon, and waits until it has. */
    async function expired(key: string, options: { staleWhileRevalidateMs?: number; staleIfErrorMs?: number }) {
      await cache.getOrSet(key, short, () => 'old', options)
      await until(async () => (await cache.get(key)) === undefined, { what: 'the expiry' })
    }

    test('returns the value that was set, and `undefined` for an unknown key', async () => {
      const key = newKey()
      assert.equal(await cache.get(key), undefined)
      for (const value of ['text', '', 0, false, null, [1, [2]], { a: { b: 'c' } }]) {
        await cache.set(key, value, long)
        assert.deepEqual(await cache.get(key), value)
      }
    })

    test('deletes a value', async () => {
      const key = newKey()
      await cache.set(key, 1, long)
      await cache.delete(key)
      assert.equal(await cache.get(key), undefined)
      await cache.delete(key)
    })

    test('expires a value', async () => {
      const key = newKey()
      await cache.set(key, 1, short)
      await until(async () => (await cache.get(key)) === undefined)
    })

    test('calls the loader once and caches the result', async () => {
      const key = newKey()
      let calls = 0
      const lookUp = () => cache.getOrSet(key, long, () => ++calls)
      assert.equal(await lookUp(), 1)
      assert.equal(await lookUp(), 1)
      assert.equal(await cache.get(key), 1)
    })

    test('calls the loader once for a hundred concurrent callers', async () => {
      const key = newKey()
      const gated = gate({ id: 7 })
      const callers = Array.from({ length: 100 }, () => cache.getOrSet(key, long, gated.load))
      await until(() => gated.calls > 0)
      gated.open()
      for (const value of await Promise.all(callers)) assert.deepEqual(value, { id: 7 })
      assert.equal(gated.calls, 1)
    })

    test('passes the key to the loader', async () => {
      const key = newKey()
      assert.equal(await cache.getOrSet(key, long, (context) => context.key), key)
    })

    test('returns the frozen value to the first caller as well', async () => {
      const key = newKey()
      const load = () => ({ at: new Date(0), list: [{ n: 1 }], gone: undefined })
      const first = await cache.getOrSet(key, long, load)
      assert.deepEqual(first, load())
      assert.throws(() => first.list.push({ n: 2 }), TypeError)
      assert.throws(() => Object.assign(first.list[0] as object, { n: 2 }), TypeError)
      assert.deepEqual(await cache.getOrSet(key, long, load), first)
    })

    test('rejects all callers of a failing loader and calls it again afterwards', async () => {
      const key = newKey()
      let calls = 0
      const failing = async () => {
        calls++
        throw new RangeError('no database')
      }
      const results = await Promise.allSettled([1, 2, 3].map(() => cache.getOrSet(key, long, failing)))
      for (const result of results) assert.ok(result.status === 'rejected' && result.reason instanceof RangeError)
      assert.equal(calls, 1)
      assert.equal(await cache.getOrSet(key, long, () => 'well'), 'well')
    })

    test('rejects when the loader throws synchronously', async () => {
      const boom = (): never => {
        throw new RangeError('at once')
      }
      await assert.rejects(cache.getOrSet(newKey(), long, boom), RangeError)
    })

    test('caches `null` and `undefined`', async () => {
      for (const nothing of [null, undefined]) {
        const key = newKey()
        let calls = 0
        const lookUp = () =>
          cache.getOrSet(key, long, () => {
            calls++
            return nothing
          })
        assert.equal(await lookUp(), nothing)
        assert.equal(await lookUp(), nothing)
        assert.equal(await cache.get(key), nothing)
        assert.equal(calls, 1)
      }
    })

    test('caches `null` and `undefined` for `negativeTtlMs`, 0 for not at all', async () => {
      let calls = 0
      const lookUp = (key: string, negativeTtlMs: number) =>
        cache.getOrSet(key, long, () => void calls++, { negativeTtlMs })
      const key = newKey()
      await lookUp(key, short)
      await until(async () => {
        await lookUp(key, short)
        return calls === 2
      })
      const never = newKey()
      await lookUp(never, 0)
      await lookUp(never, 0)
      assert.equal(calls, 4)
    })

    test('staleWhileRevalidateMs: serves the stale value at once and the new one later', async () => {
      const key = newKey()
      await expired(key, { staleWhileRevalidateMs: long })
      const gated = gate('new')
      const lookUp = () => cache.getOrSet(key, long, gated.load, { staleWhileRevalidateMs: long })
      assert.equal(await lookUp(), 'old')
      assert.equal(await lookUp(), 'old')
      gated.open()
      await until(async () => (await lookUp()) === 'new')
      assert.equal(gated.calls, 1)
    })

    test('staleWhileRevalidateMs: logs a failing loader and keeps serving the stale value', async () => {
      const key = newKey()
      await expired(key, { staleWhileRevalidateMs: long })
      const logged = peers.warnings.length
      const lookUp = () =>
        cache.getOrSet(key, long, () => Promise.reject(new Error('down')), { staleWhileRevalidateMs: long })
      assert.equal(await lookUp(), 'old')
      await until(() => peers.warnings.length > logged)
      assert.equal(await lookUp(), 'old')
    })

    test('staleIfErrorMs: serves the stale value to every caller of a failing loader', async () => {
      const key = newKey()
      await expired(key, { staleIfErrorMs: long })
      const failing = () => Promise.reject(new Error('down'))
      for (let round = 0; round < 20; round++) {
        const callers = [1, 2, 3, 4, 5].map(() => cache.getOrSet(key, long, failing, { staleIfErrorMs: long }))
        assert.deepEqual(await Promise.all(callers), ['old', 'old', 'old', 'old', 'old'])
      }
      assert.equal(await cache.getOrSet(key, long, () => 'new', { staleIfErrorMs: long }), 'new')
    })

    test('does not serve a stale value beyond its window', async () => {
      const key = newKey()
      await expired(key, { staleIfErrorMs: short })
      const failing = () => Promise.reject(new RangeError('down'))
      await until(() =>
        cache.getOrSet(key, long, failing, { staleIfErrorMs: short }).then(
          () => false,
          (error) => error instanceof RangeError,
        ),
      )
    })

    test('softTimeoutMs: serves the stale value while a slow loader continues', async () => {
      const key = newKey()
      await expired(key, { staleIfErrorMs: long })
      const gated = gate('new')
      const lookUp = () => cache.getOrSet(key, long, gated.load, { staleIfErrorMs: long, softTimeoutMs: short })
      assert.deepEqual(await Promise.all([lookUp(), lookUp()]), ['old', 'old'])
      gated.open()
      await until(async () => (await lookUp()) === 'new')
      assert.equal(gated.calls, 1)
    })

    test('hardTimeoutMs: rejects, aborts the signal and loads again for the next caller', async () => {
      const key = newKey()
      let signal: AbortSignal | undefined
      const hang = (context: { signal: AbortSignal }) => {
        signal = context.signal
        return new Promise<string>(() => undefined)
      }
      await assert.rejects(cache.getOrSet(key, long, hang, { hardTimeoutMs: 150 }), code('FLEET_ERR_CACHE_TIMEOUT'))
      assert.ok(signal?.aborted)
      assert.equal(await cache.getOrSet(key, long, () => 'well'), 'well')
    })

    test('hardTimeoutMs: serves the stale value if there is one', async () => {
      const key = newKey()
      await expired(key, { staleIfErrorMs: long })
      const hang = () => new Promise<string>(() => undefined)
      const lookUp = cache.getOrSet(key, long, hang, { staleIfErrorMs: long, hardTimeoutMs: 150 })
      assert.equal(await lookUp, 'old')
    })

    test('deleteByTag deletes all values with the tag and no others', async () => {
      const [a, b, c] = [newKey(), newKey(), newKey()]
      const [red, blue] = [newKey(), newKey()]
      await cache.set(a, 'a', long, { tags: [red] })
      await cache.getOrSet(b, long, () => 'b', { tags: [red, blue] })
      await cache.set(c, 'c', long, { tags: [blue, '__proto__', 'constructor'] })
      await cache.deleteByTag(red)
      assert.deepEqual(await Promise.all([a, b, c].map((key) => cache.get(key))), [undefined, undefined, 'c'])
      await cache.deleteByTag('__proto__')
      assert.equal(await cache.get(c), undefined)
      assert.equal(await cache.getOrSet(a, long, () => 'again', { tags: [red] }), 'again')
      assert.equal(await cache.get(a), 'again')
    })

    for (const [what, forget] of [
      ['deleted', (key: string, _: string) => cache.delete(key)],
      ['deleted by tag', (_: string, tag: string) => cache.deleteByTag(tag)],
      ['set', (key: string, _: string) => cache.set(key, 'set', long)],
    ] as const)
      test(`does not store a load that began before its key was ${what}`, async () => {
        const [key, tag] = [newKey(), newKey()]
        const gated = gate('old')
        const early = cache.getOrSet(key, long, gated.load, { tags: [tag] })
        await until(() => gated.calls === 1)
        await forget(key, tag)
        const late = cache.getOrSet(key, long, () => 'new', { tags: [tag] })
        gated.open()
        assert.equal(await early, 'old')
        assert.equal(await late, what === 'set' ? 'set' : 'new')
        assert.equal(await cache.get(key), what === 'set' ? 'set' : 'new')
      })

    test('wrap: caches results per argument list', async () => {
      let calls = 0
      const add = async (a: number, b: number) => {
        calls++
        return a + b
      }
      const name = newKey()
      const tag = newKey()
      const cached = cache.wrap(add, { name, ttlMs: long, tags: (a) => [`${tag}:${a}`] })
      assert.deepEqual([await cached(1, 2), await cached(1, 2), await cached(2, 2)], [3, 3, 4])
      assert.equal(calls, 2)
      await cache.deleteByTag(`${tag}:1`)
      await Promise.all([cached(1, 2), cached(2, 2)])
      assert.equal(calls, 3)
      assert.equal(await cache.get(`${name}:[1,2]`), 3)
    })

    test('wrap: two functions of one name never share results', async () => {
      const [users, products] = [
        { findById: async (id: number) => ({ user: id }) },
        { findById: async (id: number) => ({ product: id }) },
      ]
      const getUser = cache.wrap(users.findById, { ttlMs: long })
      const getProduct = cache.wrap(products.findById, { ttlMs: long })
      assert.deepEqual([await getUser(7), await getProduct(7)], [{ user: 7 }, { product: 7 }])
      assert.deepEqual(await cache.wrap(users.findById, { ttlMs: long })(7), { user: 7 }, 'the same function')
      const finder = (table: string) =>
        async function findIn(id: number) {
          return `${table} ${id}`
        }
      const invalid = code('FLEET_ERR_OPTION_INVALID')
      const [one, two, name] = [finder('a'), finder('b'), newKey()]
      const first = cache.wrap(one, { ttlMs: long })
      assert.throws(() => cache.wrap(two, { ttlMs: long }), invalid, 'the same source code')
      const second = cache.wrap(two, { name, ttlMs: long })
      assert.deepEqual([await first(1), await second(1)], ['a 1', 'b 1'])
      assert.throws(() => cache.wrap(one, { name, ttlMs: long }), invalid, 'a name in use')
      assert.throws(() => cache.wrap(two, { name, ttlMs: long, key: String }), invalid, 'another key')
      assert.throws(() => cache.wrap(one.bind(null), { ttlMs: long }) && cache.wrap(two.bind(null), { ttlMs: long }))
    })

    test('wrap: tells arguments apart, and ignores the order of keys', async () => {
      let calls = 0
      const count = cache.wrap(async (..._: unknown[]) => ++calls, { name: newKey(), ttlMs: long })
      const different: unknown[][] = [
        ...[
          [],
          [undefined],
          [null],
          [0],
          [-0],
          [Number.NaN],
          [Number.POSITIVE_INFINITY],
          ['0'],
          ['NaN'],
          [0n],
          ['null'],
        ],
        ...[[new Date(0)], [new Date(1)], [new Date(0).toISOString()], [new Date(Number.NaN)]],
        ...[[new Map([[1, 2]])], [new Map([['1', 2]])], [new Map()], [new Set()], [new Set([1])], [[]], [{}], [[1]]],
        ...[[{ a: 1, b: 2 }], [{ a: 1 }], [{ a: undefined }], [{ a: null }], [{ a: 1 }, { b: 2 }], [{ $fleet: 1 }]],
        ...[[{ $fleet: ['Date', 0] }], [{ $fleet: ['undefined', null] }], [true], ['true'], [[1, [2]]], [1, 2]],
      ]
      for (const [i, args] of different.entries()) assert.equal(await count(...args), i + 1, `${args}`)
      for (const [i, args] of different.entries()) assert.equal(await count(...args), i + 1, `${args}`)
      assert.equal(await count({ b: 2, a: 1 }), await count({ a: 1, b: 2 }))
      assert.equal(await count([{ x: { b: 1, a: new Date(5) } }]), await count([{ x: { a: new Date(5), b: 1 } }]))
    })

    test('wrap: rejects arguments that it cannot tell apart', async () => {
      const wrapped = cache.wrap(async (..._: unknown[]) => 1, { name: newKey(), ttlMs: long })
      for (const given of notData()) {
        await assert.rejects(wrapped(given), code('FLEET_ERR_CACHE_KEY_INVALID'), typeof given)
        await assert.rejects(wrapped({ deep: [given] }), code('FLEET_ERR_CACHE_KEY_INVALID'))
      }
      const byKey = cache.wrap(async (given: object) => typeof given, { name: newKey(), ttlMs: long, key: () => 'one' })
      assert.equal(await byKey(new Own()), 'object')
      for (const key of [() => undefined, () => 1, () => ''] as unknown[]) {
        const invalid = cache.wrap(async () => 1, { name: newKey(), ttlMs: long, key: key as () => string })
        await assert.rejects(invalid(), code('FLEET_ERR_CACHE_KEY_INVALID'))
      }
    })

    test('returns every kind of data as the loader returned it', async () => {
      const values: unknown[] = [
        ...[
          new Date(5),
          new Date(Number.NaN),
          10n ** 30n,
          -0,
          Number.NaN,
          Number.NEGATIVE_INFINITY,
          'text',
          '~',
          '~{}',
        ],
        ...[
          new Map<unknown, unknown>([
            ['a', new Date(1)],
            [{ b: 1 }, new Set([1n])],
          ]),
          new Set([undefined, null]),
        ],
        { id: 1n, at: new Date(7), tags: new Set(['x']), no: undefined, list: [undefined, -0, [new Map()]] },
        ...[
          { $fleet: ['Date', 5] },
          { $fleet: { at: new Date(5) } },
          { a: { $fleet: 1 } },
          [],
          {},
          [[]],
          { a: undefined },
        ],
        JSON.parse('{"__proto__":{"a":1},"constructor":2}'),
        Object.assign(Object.create(null), { a: 1 }),
      ]
      for (const value of values) {
        const [set, loaded] = [newKey(), newKey()]
        await cache.set(set, value, long)
        const plain = value !== null && Object.getPrototypeOf(Object(value)) === null ? { ...(value as object) } : value
        assert.deepEqual(await cache.get(set), plain)
        assert.deepEqual(await cache.getOrSet(loaded, long, () => value), plain)
        assert.deepEqual(await cache.get(loaded), plain)
        // A cached value may be cached again.
        await cache.set(set, await cache.get(set), long)
        assert.deepEqual(await cache.get(set), plain)
      }
    })

    test('rejects values that it cannot restore', async () => {
      for (const given of notData()) {
        const invalid = code('FLEET_ERR_CACHE_VALUE_INVALID')
        await assert.rejects(cache.set(newKey(), given, long), invalid)
        await assert.rejects(cache.set(newKey(), { deep: [given] }, long), invalid)
        await assert.rejects(cache.set(newKey(), new Map([[1, given]]), long), invalid)
        await assert.rejects(
          cache.getOrSet(newKey(), long, () => ({ given })),
          invalid,
        )
      }
      const error = await cache
        .set('k', { user: [{ price: new Own() }] }, long)
        .catch((reason: Error) => reason.message)
      assert.match(String(error), /"k": value\.user\[0\]\.price is an instance of Own/)
    })

    test('returns dates, maps and sets that cannot be changed', async () => {
      const key = newKey()
      await cache.set(key, { at: new Date(5), map: new Map([[1, { a: 1 }]]), set: new Set([1]) }, long)
      const found = await cache.get<{ at: Date; map: Map<number, { a: number }>; set: Set<number> }>(key)
      assert.ok(found)
      assert.throws(() => found.at.setTime(0), TypeError)
      assert.throws(() => found.map.set(2, { a: 2 }), TypeError)
      assert.throws(() => Object.assign(found.map.get(1) ?? {}, { a: 2 }), TypeError)
      assert.throws(() => found.set.clear(), TypeError)
      const copy = new Date(found.at)
      copy.setTime(6)
      assert.deepEqual(await cache.get(key), { at: new Date(5), map: new Map([[1, { a: 1 }]]), set: new Set([1]) })
    })

    test('rejects invalid keys, tags, durations and values', async () => {
      const invalid: [FleetErrorCode, () => unknown][] = [
        ['FLEET_ERR_CACHE_KEY_INVALID', () => cache.get('')],
        ['FLEET_ERR_CACHE_KEY_INVALID', () => cache.get('x'.repeat(513))],
        ['FLEET_ERR_CACHE_KEY_INVALID', () => cache.get(7 as never)],
        ['FLEET_ERR_CACHE_KEY_INVALID', () => cache.set('}', 1, long)],
        ['FLEET_ERR_CACHE_KEY_INVALID', () => cache.set('x', 1, long, { tags: ['}'] })],
        ['FLEET_ERR_CACHE_KEY_INVALID', () => cache.delete('')],
        ['FLEET_ERR_CACHE_KEY_INVALID', () => cache.deleteByTag('')],
        ['FLEET_ERR_CACHE_KEY_INVALID', () => cache.getOrSet('', long, () => 1)],
        ['FLEET_ERR_OPTION_INVALID', () => cache.set('x', 1, 0)],
        ['FLEET_ERR_OPTION_INVALID', () => cache.set('x', 1, Number.NaN)],
        ['FLEET_ERR_OPTION_INVALID', () => cache.getOrSet(newKey(), '1s' as never, () => 1)],
        ['FLEET_ERR_OPTION_INVALID', () => cache.getOrSet(newKey(), 1, () => 1, { softTimeoutMs: -1 })],
        ['FLEET_ERR_OPTION_UNKNOWN', () => cache.getOrSet(newKey(), 1, () => 1, { grace: 1 } as never)],
        ['FLEET_ERR_OPTION_INVALID', async () => cache.wrap(() => 1, { ttlMs: 1 })],
        ['FLEET_ERR_CACHE_VALUE_INVALID', () => cache.set('x', () => 1, long)],
        ['FLEET_ERR_CACHE_VALUE_INVALID', () => cache.getOrSet(newKey(), long, () => Symbol('s'))],
        ['FLEET_ERR_CACHE_VALUE_TOO_LARGE', () => cache.set('x', 'x'.repeat(2 ** 20), long)],
      ]
      for (const [expected, call] of invalid) await assert.rejects(async () => call(), code(expected), `${call}`)
    })

    test('returns a value that is too large to store, with a warning', async () => {
      const key = newKey()
      const logged = peers.warnings.length
      const large = 'x'.repeat(2 ** 20)
      assert.equal(await cache.getOrSet(key, long, () => large), large)
      assert.equal(peers.warnings.length, logged + 1)
      assert.equal(await cache.get(key), undefined)
    })

    test('keeps every valid key distinct', async () => {
      const odd = ['{', '{}', 'a}b', '{a', 'a{b}', ' ', '\n', '\0', 'ключ', '🔑', '__proto__', 'x'.repeat(512)]
      await Promise.all(odd.map((key) => cache.set(key, `value of ${key}`, long)))
      for (const key of odd) assert.equal(await cache.get(key), `value of ${key}`)
    })
  })
}
