import { keysOf, type RedisClient } from '../redis/index.ts'
import { Tracking } from '../redis/tracking.ts'
import { RedisSessions } from './engine.ts'
import type { Later } from './later.ts'
import { Kept } from './loaded.ts'
import type { Members } from './text.ts'

const maxTracked = 10_000
/** Characters of all of them together. */
const maxLength = 64 * 1024 * 1024

/** Until when a session may be kept, `performance.now()`: what is over makes Redis say so, but not to the millisecond. */
interface Entry {
  readonly session: Kept
  readonly length: number
  readonly until: number
}

/**
 * Keeps what it has read in this process's memory, so that reading it again asks nobody. Redis says what has changed, and
 * while it cannot be heard nothing that is kept counts.
 */
export class TrackedSessions extends RedisSessions {
  readonly #tracking: Tracking
  readonly #kept = new Map<string, Entry>()
  #length = 0
  /** Reads under way: what is written meanwhile may not be in their answer, so that is not kept. */
  readonly #reading = new Map<string, symbol>()

  /** @param refused told when this Redis will not say what has changed */
  constructor(client: RedisClient, name: string, refused: (reason: string) => void) {
    super(client, keysOf(name))
    const [before, after] = keysOf(name)('session', '\n').split('\n') as [string, string]
    this.#tracking = new Tracking(client, before, {
      changed: (key) => this.#drop(key.slice(before.length, -after.length)),
      missed: () => {
        this.#kept.clear()
        this.#length = 0
        this.#reading.clear()
      },
      refused,
    })
  }

  override read(id: string): Later<string | Kept | null> {
    const now = performance.now()
    if (!this.#tracking.isCurrent(now)) return super.read(id)
    const entry = this.#kept.get(id)
    return entry && now < entry.until ? entry.session : this.#fetch(id)
  }

  override put(id: string, text: string, ttlMs: number): Promise<void> {
    return this.#written(id, super.put(id, text, ttlMs))
  }

  override replace(id: string, text: string, ttlMs: number): Promise<boolean> {
    return this.#written(id, super.replace(id, text, ttlMs))
  }

  override merge(id: string, changes: Members, ttlMs: number, maxBytes: number): Promise<boolean> {
    return this.#written(id, super.merge(id, changes, ttlMs, maxBytes))
  }

  override destroy(id: string): Promise<boolean> {
    return this.#written(id, super.destroy(id))
  }

  close(): void {
    this.#tracking.close()
  }

  async #fetch(id: string): Promise<string | null> {
    const read = Symbol(id)
    this.#reading.set(id, read)
    const asked = performance.now()
    try {
      const [text, life] = await Promise.all([super.read(id) as Promise<string | null>, this.life(id)])
      if (text !== null && life > 0 && this.#reading.get(id) === read) this.#keep(id, text, asked + life)
      return text
    } finally {
      if (this.#reading.get(id) === read) this.#reading.delete(id)
    }
  }

  /** This process need not wait for Redis to say so. */
  async #written<T>(id: string, writing: Promise<T>): Promise<T> {
    try {
      return await writing
    } finally {
      this.#drop(id)
    }
  }

  #keep(id: string, text: string, until: number): void {
    this.#forget(id)
    this.#kept.set(id, { session: new Kept(id, text), length: text.length, until })
    this.#length += text.length
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= maxTracked && this.#length <= maxLength) break
      this.#forget(oldest)
    }
  }

  #forget(id: string): void {
    this.#length -= this.#kept.get(id)?.length ?? 0
    this.#kept.delete(id)
  }

  #drop(id: string): void {
    this.#forget(id)
    this.#reading.delete(id)
  }
}
