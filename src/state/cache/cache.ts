import { createHash } from 'node:crypto'
import { FleetError } from '../../base/errors.ts'
import { resolveOptions, show } from '../../base/options.ts'
import type { CacheMessage, InvalidationKind } from './invalidation.ts'
import { type CacheEntry, usable } from './memory-store.ts'
import { type LoadOptions, loadOptions, type ResolvedCacheOptions, type ResolvedLoadOptions, ttl } from './options.ts'
import { type CacheOutcome, jittered, type Loader, SingleFlight } from './single-flight.ts'
import type { SharedCacheStore } from './store.ts'
import { TieredStore } from './tiered-store.ts'
import { argumentsKey, encode, tooLarge } from './value.ts'

export interface SetOptions {
  /** Tags for `deleteByTag()`. @default none */
  tags?: readonly string[]
}

export interface WrapOptions<A extends unknown[]> extends Omit<LoadOptions, 'tags'> {
  /** How long a result is fresh, ms. */
  ttlMs: number
  /** Prefix of the keys, unique in the app. @default the function's name and a hash of its source code */
  name?: string
  /** Rest of the key, one per distinct call. @default the arguments, whose objects are equal in any order of their keys */
  key?: (...args: A) => string
  tags?: readonly string[] | ((...args: A) => readonly string[])
}

export interface CacheParts {
  /** `null`: memory only. */
  readonly shared: SharedCacheStore | null
  publish(message: CacheMessage): Promise<void>
  warn(details: object, message: string): void
}

/**
 * A cache in two tiers: the memory of this process over Redis, or memory alone.
 *
 * Values are copied and returned frozen, to the first caller as well: writing to a returned value throws. Plain data of any
 * kind is kept, with dates, maps, sets and BigInts; class instances and functions are rejected. An outage of Redis causes no
 * errors: loaders are called instead, and a change made by another instance may be seen up to `offlineTtlMs` late.
 *
 * Keys and tags are strings of 1 to `maxKeyLength` characters that do not start with `}` (FLEET_ERR_CACHE_KEY_INVALID).
 */
export class TieredCache {
  /** Calls of `get()` and `getOrSet()` by outcome. */
  readonly outcomes: Record<CacheOutcome, number> = { memory: 0, redis: 0, loader: 0, stale: 0, nothing: 0, error: 0 }
  readonly store: TieredStore
  readonly singleFlight: SingleFlight
  readonly #options: ResolvedCacheOptions
  readonly #defaults: ResolvedLoadOptions
  /** By prefix of their keys. */
  readonly #wrapped = new Map<string, Pick<WrapOptions<never>, 'key'> & { readonly fn: unknown }>()

  constructor(options: ResolvedCacheOptions, { shared, publish, warn }: CacheParts) {
    this.#options = options
    const { staleWhileRevalidateMs, staleIfErrorMs, softTimeoutMs, hardTimeoutMs, negativeTtlMs } = options
    const times = { staleWhileRevalidateMs, staleIfErrorMs, softTimeoutMs, hardTimeoutMs, negativeTtlMs }
    this.#defaults = { ...times, tags: [] }
    this.store = new TieredStore(options, shared, publish)
    this.singleFlight = new SingleFlight(options, this.store, warn)
  }

  /** @returns the value while it is fresh, else `undefined` */
  get<T = unknown>(key: string): Promise<T | undefined> {
    const entry = this.store.memory.get(key)
    if (entry !== undefined && entry.freshUntil > performance.now()) return this.#hit(entry)
    return this.#read(key) as Promise<T | undefined>
  }

  /**
   * Returns the value, or calls `loader` on a miss: once in the whole fleet, however many callers wait. If the loading
   * instance dies, another one takes over within `leaseMs`. A value that is too large to store is returned without being stored.
   *
   * @param ttlMs how long the value is fresh, 1 ms to a year
   * @throws the loader's error; FLEET_ERR_CACHE_TIMEOUT after `hardTimeoutMs`; FLEET_ERR_CACHE_VALUE_INVALID
   */
  getOrSet<T>(key: string, ttlMs: number, loader: Loader<T>, options?: LoadOptions): Promise<T> {
    const entry = this.store.memory.get(key)
    if (entry !== undefined && entry.freshUntil > performance.now()) return this.#hit(entry)
    return this.#miss(key, ttlMs, loader, options, entry) as Promise<T>
  }

  /**
   * Stores a value for the whole fleet and discards the results of loads in progress.
   *
   * @param ttlMs how long the value is fresh, 1 ms to a year
   * @throws FLEET_ERR_CACHE_VALUE_TOO_LARGE, FLEET_ERR_CACHE_VALUE_INVALID, FLEET_ERR_OPTION_INVALID
   */
  async set(key: string, value: unknown, ttlMs: number, { tags = [] }: SetOptions = {}): Promise<void> {
    this.#check('key', key)
    this.#resolve(ttlMs, { tags })
    const encoded = encode(key, value)
    const { maxValueBytes, jitter } = this.#options
    if (encoded.bytes > maxValueBytes) throw tooLarge(key, encoded, maxValueBytes)
    const freshMs = jittered(ttlMs, jitter)
    const { store } = this
    const { shared } = store
    store.invalidate('key', key)
    // Before the write to Redis: the message of a later change may arrive before its reply and must find this value.
    store.remember({ key, tags: new Set(tags), outdated: false }, encoded, tags, freshMs, false)
    if (!shared) return
    await store.invalidations?.send('key', key, async () => {
      const stamps = await shared.stamps(tags, freshMs)
      await shared.put(key, { json: encoded.json, stamps, freshMs, keepMs: 0 })
    })
  }

  /** Deletes a value on every instance. The result of a load that began earlier on any instance is not stored. */
  delete(key: string): Promise<void> {
    return this.#invalidate('key', key)
  }

  /** Deletes all values with this tag on every instance. */
  deleteByTag(tag: string): Promise<void> {
    return this.#invalidate('tag', tag)
  }

  /**
   * Returns `fn` with cached results per argument list; throws the errors of {@link TieredCache.getOrSet}, and
   * FLEET_ERR_CACHE_KEY_INVALID for arguments that are no plain data.
   *
   * @throws FLEET_ERR_OPTION_INVALID if another function has the same name, because the two would share their results
   */
  wrap<A extends unknown[], R>(fn: (...args: A) => R, options: WrapOptions<A>): (...args: A) => Promise<Awaited<R>> {
    const { ttlMs, name = defaultName(fn), key, tags, ...rest } = options
    this.#check('key', name)
    this.#resolve(ttlMs, rest)
    const before = this.#wrapped.get(name)
    if (before && (before.fn !== fn || before.key !== key))
      throw new FleetError(
        'FLEET_ERR_OPTION_INVALID',
        `\`cache.wrap\` has wrapped another function as ${show(name)}, or with another \`key\`; call it once for each function, not in handlers, and set a \`name\` of its own`,
      )
    this.#wrapped.set(name, { fn, key })
    return async (...args): Promise<Awaited<R>> => {
      const call = key ? key(...args) : argumentsKey(name, args)
      this.#check('key', call)
      const load = { ...rest, tags: typeof tags === 'function' ? tags(...args) : tags }
      return this.getOrSet<Awaited<R>>(`${name}:${call}`, ttlMs, () => fn(...args) as Awaited<R>, load)
    }
  }

  /** Handles a peer's message. */
  receive(message: CacheMessage): void {
    // A stored or deleted value ends its lease, so loads that wait for it poll again.
    if (message.kind !== 'tag') this.singleFlight.wake(message.name)
    if (message.kind !== 'filled' && message.from !== this.store.invalidations?.from)
      this.store.invalidate(message.kind, message.name)
  }

  #hit<T>(entry: CacheEntry): Promise<T> {
    entry.visited = true
    this.outcomes.memory++
    return entry.promise as Promise<T>
  }

  async #read(key: string): Promise<unknown> {
    this.#check('key', key)
    const { store } = this
    const read = { key, tags: new Set<string>(), outdated: false }
    store.begin(read)
    try {
      const found = store.shared ? (await store.read(store.shared, read, {}, 0)).found : undefined
      if (found && found.freshMs > 0) {
        this.outcomes.redis++
        return await store.adopt(read, found).promise
      }
    } catch {
      // Redis is unavailable: a miss.
    } finally {
      store.end(read)
    }
    this.outcomes.nothing++
    return undefined
  }

  async #miss(
    key: string,
    ttlMs: number,
    loader: Loader<unknown>,
    given: LoadOptions | undefined,
    entry: CacheEntry | undefined,
  ): Promise<unknown> {
    this.#check('key', key)
    const plan = { ...this.#resolve(ttlMs, given), ttlMs, loader }
    const load = this.singleFlight.join(key, plan, entry)
    if (entry && usable(entry, plan.staleWhileRevalidateMs)) {
      this.outcomes.stale++
      return entry.promise
    }
    try {
      return await load.promise
    } finally {
      this.outcomes[load.outcome]++
    }
  }

  async #invalidate(kind: InvalidationKind, name: string): Promise<void> {
    this.#check(kind, name)
    this.store.invalidate(kind, name)
    await this.store.invalidations?.send(kind, name)
    // A read may have fetched the old value from Redis meanwhile.
    this.store.invalidate(kind, name)
  }

  #resolve(ttlMs: number, given: LoadOptions | undefined): ResolvedLoadOptions {
    if (!ttl.accepts(ttlMs))
      throw new FleetError(
        'FLEET_ERR_OPTION_INVALID',
        `\`cache\` ttlMs must be ${ttl.expects}, but it is ${show(ttlMs)}`,
      )
    const options = given ? resolveOptions('cache', loadOptions, this.#defaults, given) : this.#defaults
    for (const tag of options.tags) this.#check('tag', tag)
    return options
  }

  /** A name that starts with `}` has no hash tag in Redis Cluster, so its keys would be in different slots. */
  #check(kind: InvalidationKind, name: unknown): void {
    const { maxKeyLength } = this.#options
    if (typeof name === 'string' && name !== '' && name.length <= maxKeyLength && !name.startsWith('}')) return
    throw new FleetError(
      'FLEET_ERR_CACHE_KEY_INVALID',
      `a ${kind} must be a string of 1 to ${maxKeyLength} characters that does not start with }, but it is ${show(name)}`,
    )
  }
}

/**
 * The same on all instances that run the same code. Functions of one name differ in their source code, or the second one is
 * rejected.
 */
function defaultName(fn: (...args: never[]) => unknown): string {
  const { name } = fn
  if (name === '')
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`cache.wrap` needs a `name` for a function without one')
  return `${name}#${createHash('sha256').update(String(fn)).digest('base64url').slice(0, 10)}`
}

/** `app.cache`. */
export type Cache = Pick<TieredCache, 'get' | 'set' | 'delete' | 'deleteByTag' | 'getOrSet' | 'wrap'>
