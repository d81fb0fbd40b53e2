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

/**
 * Values in the memory of one process, bounded by count and by size. SIEVE decides the evictions (Zhang et al., NSDI 2024):
 * a hand walks from the oldest entry to the newest, skips each entry once if it was read since the last visit, and evicts
 * the first one that was not. A hit costs one flag, where LRU would reorder its list. A `Map` iterator serves as the hand:
 * it survives insertions and deletions, and entries keep their position.
 */
export class MemoryCacheStore {
  readonly #limits: MemoryCacheLimits
  readonly #entries = new Map<string, CacheEntry>()
  readonly #tags = new Map<string, Set<string>>()
  #hand = this.#entries.entries()
  #bytes = 0

  constructor(limits: MemoryCacheLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#entries.size
  }

  get bytes(): number {
    return this.#bytes
  }

  get(key: string): CacheEntry | undefined {
    return this.#entries.get(key)
  }

  set(key: string, entry: CacheEntry): void {
    this.delete(key)
    if (this.#limits.maxItems === 0 || entry.bytes > this.#limits.maxBytes) return
    while (this.#entries.size >= this.#limits.maxItems || this.#bytes + entry.bytes > this.#limits.maxBytes)
      this.#evict()
    this.#entries.set(key, entry)
    this.#bytes += entry.bytes
    for (const tag of entry.tags) {
      const keys = this.#tags.get(tag)
      if (keys) keys.add(key)
      else this.#tags.set(tag, new Set([key]))
    }
  }

  delete(key: string): void {
    const entry = this.#entries.get(key)
    if (!entry) return
    this.#entries.delete(key)
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
    for (const entry of this.#entries.values()) {
      entry.expiresAt = Math.min(entry.expiresAt, now)
      entry.freshUntil = Math.min(entry.freshUntil, now)
    }
  }

  #evict(): void {
    for (;;) {
      const { done, value } = this.#hand.next()
      if (done) this.#hand = this.#entries.entries()
      else if (value[1].visited) value[1].visited = false
      else {
        this.delete(value[0])
        return
      }
    }
  }
}
