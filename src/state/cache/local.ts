/** One value in this process. */
export interface Entry {
  /** Already resolved, and the same for every hit: handing it out costs nothing. */
  readonly promise: Promise<unknown>
  readonly tags: readonly string[]
  /** Size of the value as JSON. */
  readonly bytes: number
  /** When the value stops being fresh, on the clock of `performance.now()`. */
  expiresAt: number
  /** Until when a hit asks nobody. Later than `expiresAt` only while a failing loader is given a rest. */
  freshUntil: number
  visited: boolean
}

/** Whether a value is fresh still, or was until `windowMs` ago. */
export function usable(entry: Entry, windowMs: number): boolean {
  return performance.now() < entry.expiresAt + windowMs
}

export interface LocalLimits {
  readonly maxItems: number
  readonly maxBytes: number
}

/**
 * What one process remembers, bounded by count and by size. Who leaves when it is full is decided by SIEVE (Zhang et
 * al., NSDI 2024): a hand walks from the oldest entry to the newest, spares once what was read since it last came by,
 * and takes the first that was not. A hit so costs one flag, where LRU would reorder its list. A `Map` iterator is that
 * hand: it survives insertions and deletions, and entries keep their place.
 */
export class LocalStore {
  readonly #limits: LocalLimits
  readonly #entries = new Map<string, Entry>()
  readonly #tags = new Map<string, Set<string>>()
  #hand = this.#entries.entries()
  #bytes = 0

  constructor(limits: LocalLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#entries.size
  }

  get bytes(): number {
    return this.#bytes
  }

  get(key: string): Entry | undefined {
    return this.#entries.get(key)
  }

  set(key: string, entry: Entry): void {
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

  /** Nothing is fresh from now on; what was may still be served stale. */
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
