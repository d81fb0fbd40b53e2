/** One value in this process. */
export interface CacheEntry {
  /** Already resolved and shared by every hit, so a hit allocates nothing. */
  readonly promise: Promise<unknown>
  readonly tags: readonly string[]
  /** Size of the value as JSON. */
  readonly bytes: number
  /** End of freshness, on the clock of `performance.now()`. */
  expiresAt: number
  /** Until then a hit triggers no load. Later than `expiresAt` only during the back-off of a failing loader. */
  freshUntil: number
  visited: boolean
}

/** Whether a value is fresh, or has been stale for less than `windowMs`. */
export function usable(entry: CacheEntry, windowMs: number): boolean {
  return performance.now() < entry.expiresAt + windowMs
}

export interface MemoryCacheLimits {
  readonly maxItems: number
  readonly maxBytes: number
}

/** An entry in the list of all, from the oldest to the newest. */
interface Place {
  readonly key: string
  readonly entry: CacheEntry
  older: Place | undefined
  newer: Place | undefined
}

/**
 * Values in the memory of one process, bounded by count and by size. SIEVE decides the evictions (Zhang et al., NSDI 2024):
 * a hand walks from the oldest entry to the newest, skips each entry once if it was read since the last visit, and evicts
 * the first one that was not. A hit costs one flag, where LRU would reorder its list. A kept iterator of a `Map` cannot serve as
 * the hand: V8 keeps every entry that was deleted since the iterator moved last.
 */
export class MemoryCacheStore {
  readonly #limits: MemoryCacheLimits
  readonly #places = new Map<string, Place>()
  readonly #tags = new Map<string, Set<string>>()
  #oldest: Place | undefined
  #newest: Place | undefined
  /** Where the next eviction begins. Undefined at the end of the list: then at the next entry that is added, else at the oldest. */
  #hand: Place | undefined
  #bytes = 0

  constructor(limits: MemoryCacheLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#places.size
  }

  get bytes(): number {
    return this.#bytes
  }

  get(key: string): CacheEntry | undefined {
    return this.#places.get(key)?.entry
  }

  set(key: string, entry: CacheEntry): void {
    this.delete(key)
    if (this.#limits.maxItems === 0 || entry.bytes > this.#limits.maxBytes) return
    while (this.#places.size >= this.#limits.maxItems || this.#bytes + entry.bytes > this.#limits.maxBytes)
      this.#evict()
    this.#append({ key, entry, older: this.#newest, newer: undefined })
    this.#bytes += entry.bytes
    for (const tag of entry.tags) {
      const keys = this.#tags.get(tag)
      if (keys) keys.add(key)
      else this.#tags.set(tag, new Set([key]))
    }
  }

  delete(key: string): void {
    const place = this.#places.get(key)
    if (!place) return
    const { entry } = place
    this.#remove(place)
    this.#bytes -= entry.bytes
    for (const tag of entry.tags) {
      const keys = this.#tags.get(tag)
      if (keys?.delete(key) && keys.size === 0) this.#tags.delete(tag)
    }
  }

  deleteByTag(tag: string): void {
    for (const key of this.#tags.get(tag) ?? []) this.delete(key)
  }

  /** Marks every value as stale. */
  expireAll(): void {
    const now = performance.now()
    for (const { entry } of this.#places.values()) {
      entry.expiresAt = Math.min(entry.expiresAt, now)
      entry.freshUntil = Math.min(entry.freshUntil, now)
    }
  }

  #append(place: Place): void {
    this.#places.set(place.key, place)
    if (place.older) place.older.newer = place
    else this.#oldest = place
    this.#newest = place
    this.#hand ??= place
  }

  #remove(place: Place): void {
    const { key, older, newer } = place
    this.#places.delete(key)
    if (older) older.newer = newer
    else this.#oldest = newer
    if (newer) newer.older = older
    else this.#newest = older
    if (this.#hand === place) this.#hand = newer
  }

  #evict(): void {
    let place = this.#hand ?? this.#oldest
    while (place?.entry.visited) {
      place.entry.visited = false
      place = place.newer ?? this.#oldest
    }
    if (!place) return
    this.#hand = place
    this.delete(place.key)
  }
}
