import { FleetError } from '../../base/errors.ts'
import { resolveLegacy, show } from '../../base/options.ts'
import type { Cache, Loader, SetOptions, WrapOptions } from './api.ts'
import type { CacheMessage, InvalidationKind } from './invalidation.ts'
import { type CacheEntry, usable } from './memory-store.ts'
import {
  type LoadOptions,
  loadDefaults,
  loadShapes,
  type ResolvedCacheOptions,
  type ResolvedLoadOptions,
  ttl,
} from './options.ts'
import { type CacheOutcome, jittered, outcomes, SingleFlight } from './single-flight.ts'
import type { SharedCacheStore } from './store.ts'
import { TieredStore } from './tiered-store.ts'
import { encode, tooLarge } from './value.ts'

export interface CacheParts {
  /** `null`: memory only. */
  readonly shared: SharedCacheStore | null
  publish(message: CacheMessage): Promise<void>
  warn(details: object, message: string): void
}

export class TieredCache implements Cache {
  /** Calls of `get()` and `getOrSet()` by outcome. */
  readonly outcomes: Record<CacheOutcome, number> = Object.fromEntries(outcomes.map((o) => [o, 0])) as Record<
    CacheOutcome,
    number
  >
  readonly store: TieredStore
  readonly singleFlight: SingleFlight
  readonly #options: ResolvedCacheOptions
  readonly #defaults: ResolvedLoadOptions

  constructor(options: ResolvedCacheOptions, { shared, publish, warn }: CacheParts) {
    this.#options = options
    this.#defaults = loadDefaults(options)
    this.store = new TieredStore(options, shared, publish)
    this.singleFlight = new SingleFlight(options, this.store, warn)
  }

  get<T>(key: string): Promise<T | undefined> {
    const entry = this.store.memory.get(key)
    if (entry !== undefined && entry.freshUntil > performance.now()) return this.#hit(entry)
    return this.#read(key) as Promise<T | undefined>
  }

  getOrSet<T>(key: string, ttlMs: number, loader: Loader<T>, options?: LoadOptions): Promise<T> {
    const entry = this.store.memory.get(key)
    if (entry !== undefined && entry.freshUntil > performance.now()) return this.#hit(entry)
    return this.#miss(key, ttlMs, loader, options, entry) as Promise<T>
  }

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
    await store.change('key', key, async () => {
      const stamps = await shared.stamps(tags, freshMs)
      await shared.put(key, { json: encoded.json, stamps, freshMs, keepMs: 0 })
    })
  }

  delete(key: string): Promise<void> {
    return this.#invalidate('key', key)
  }

  deleteByTag(tag: string): Promise<void> {
    return this.#invalidate('tag', tag)
  }

  wrap<A extends unknown[], R>(fn: (...args: A) => R, options: WrapOptions<A>): (...args: A) => Promise<Awaited<R>> {
    const { ttlMs, name = fn.name, key = (...args: A) => JSON.stringify(args), tags, ...rest } = options
    if (name === '')
      throw new FleetError('FLEET_ERR_OPTION_INVALID', '`cache.wrap` needs a `name` for a function without one')
    this.#resolve(ttlMs, rest)
    return (...args) => {
      const load = { ...rest, tags: typeof tags === 'function' ? tags(...args) : tags }
      return this.getOrSet(`${name}:${key(...args)}`, ttlMs, () => fn(...args) as Awaited<R>, load)
    }
  }

  /** Handles a peer's message. */
  receive(message: CacheMessage): void {
    // A stored or deleted value ends its lease, so loads that wait for it poll again.
    if (message.kind !== 'tag') this.singleFlight.wake(message.name)
    if (message.kind !== 'filled' && !this.store.isOwn(message)) this.store.invalidate(message.kind, message.name)
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
    await this.store.change(kind, name)
    // A read may have fetched the old value from Redis meanwhile.
    this.store.invalidate(kind, name)
  }

  #resolve(ttlMs: number, given: LoadOptions | undefined): ResolvedLoadOptions {
    if (!ttl.accepts(ttlMs))
      throw new FleetError(
        'FLEET_ERR_OPTION_INVALID',
        `\`cache\` ttlMs must be ${ttl.expects}, but it is ${show(ttlMs)}`,
      )
    const options = given
      ? resolveLegacy<ResolvedLoadOptions>('cache', loadShapes, this.#defaults, given)
      : this.#defaults
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
