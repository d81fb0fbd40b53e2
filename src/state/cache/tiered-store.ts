import { type CacheMessage, type InvalidationKind, Invalidations } from './invalidation.ts'
import { type CacheEntry, type MemoryCacheLimits, MemoryCacheStore } from './memory-store.ts'
import type { SharedCacheStore, SharedReadOptions, SharedValue } from './store.ts'
import type { Encoded } from './value.ts'

/** A read in progress. If its key or one of its tags is invalidated meanwhile, its result is not stored. */
export interface CacheRead {
  readonly key: string
  /** The tags of the call, and those of the value that is found. */
  readonly tags: Set<string>
  outdated: boolean
}

export interface TieredRead {
  readonly found?: SharedValue
  readonly leased: boolean
  /** Stamps of the read's tags, as they were before it. */
  readonly stamps: Readonly<Record<string, string>>
}

/** Minimum life of a stamp that is only compared, ms. */
const compareLifeMs = 1_000

/** Memory over Redis. A value enters memory only while it is valid, and is removed when it is invalidated. */
export class TieredStore {
  readonly memory: MemoryCacheStore
  readonly shared: SharedCacheStore | null
  readonly invalidations: Invalidations | null
  readonly #reads = new Set<CacheRead>()
  readonly #offlineTtlMs: number
  /** Whether the invalidations of peers are received. */
  #connected: boolean

  constructor(
    options: MemoryCacheLimits & { readonly offlineTtlMs: number },
    shared: SharedCacheStore | null,
    publish: (message: CacheMessage) => Promise<void>,
  ) {
    this.memory = new MemoryCacheStore(options)
    this.shared = shared
    this.invalidations = shared && new Invalidations(shared, publish)
    this.#offlineTtlMs = options.offlineTtlMs
    this.#connected = shared === null
  }

  begin(read: CacheRead): void {
    this.#reads.add(read)
  }

  end(read: CacheRead): void {
    this.#reads.delete(read)
  }

  /**
   * Reads from Redis; a value with an outdated tag counts as absent.
   *
   * @throws if Redis does not respond, or an invalidation of the value is still pending
   */
  async read(
    shared: SharedCacheStore,
    read: CacheRead,
    options: SharedReadOptions,
    lifeMs: number,
  ): Promise<TieredRead> {
    this.#assertNonePending(read)
    const [stamps, { found, leased }] = await Promise.all([
      shared.stamps([...read.tags], lifeMs),
      shared.read(read.key, options),
    ])
    if (!found) return { leased, stamps }
    for (const tag of Object.keys(found.stamps)) read.tags.add(tag)
    this.#assertNonePending(read)
    if (await isValid(shared, found, stamps)) return { found, leased, stamps }
    if (leased || !options.token) return { leased, stamps }
    return this.read(shared, read, { ...options, reject: found.id }, lifeMs)
  }

  /** Copies a value from Redis into memory. */
  adopt(read: CacheRead, { value, bytes, stamps, freshMs }: SharedValue): CacheEntry {
    return this.#store(read, { value, bytes }, Object.keys(stamps), freshMs)
  }

  /** @param localOnly the value is not in Redis, so that peers cannot invalidate it */
  remember(
    read: CacheRead,
    encoded: Encoded,
    tags: readonly string[],
    freshMs: number,
    localOnly: boolean,
  ): CacheEntry {
    const life = localOnly && this.shared ? Math.min(freshMs, this.#offlineTtlMs) : freshMs
    return this.#store(read, encoded, tags, life)
  }

  invalidate(kind: InvalidationKind, name: string): void {
    if (kind === 'key') this.memory.delete(name)
    else this.memory.deleteByTag(name)
    for (const read of this.#reads) if (kind === 'key' ? read.key === name : read.tags.has(name)) read.outdated = true
  }

  /** The connection for invalidations was lost or restored. Some may have been missed, so all values in memory become stale. */
  setConnected(connected: boolean): void {
    this.#connected = connected
    this.memory.expireAll()
    for (const read of this.#reads) read.outdated = true
  }

  #store(
    read: CacheRead,
    { value, bytes }: Pick<Encoded, 'value' | 'bytes'>,
    tags: readonly string[],
    freshMs: number,
  ): CacheEntry {
    const expiresAt = performance.now() + (this.#connected ? freshMs : Math.min(freshMs, this.#offlineTtlMs))
    const promise = Promise.resolve(value)
    const entry = { promise, tags, bytes, expiresAt, freshUntil: expiresAt, visited: false }
    if (!read.outdated) this.memory.set(read.key, entry)
    return entry
  }

  #assertNonePending({ key, tags }: CacheRead): void {
    const { invalidations } = this
    if (invalidations?.isPending('key', key) || [...tags].some((tag) => invalidations?.isPending('tag', tag)))
      throw new Error('the value in Redis is outdated: its invalidation is pending')
  }
}

async function isValid(
  shared: SharedCacheStore,
  found: SharedValue,
  known: Readonly<Record<string, string>>,
): Promise<boolean> {
  const tags = Object.keys(found.stamps)
  const others = await shared.stamps(
    tags.filter((tag) => !Object.hasOwn(known, tag)),
    compareLifeMs,
  )
  return tags.every((tag) => found.stamps[tag] === (Object.hasOwn(known, tag) ? known[tag] : others[tag]))
}
