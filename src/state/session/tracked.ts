import type { FastifyFleet } from 'fastify'
import type { SessionEngine } from './engine.ts'
import type { Members } from './text.ts'

const maxTracked = 10_000
/** Whatever happens to a message (its sender may be killed before it is sent), this is how long it can matter. */
const maxAgeMs = 1000
const channel = 'sessions'

/**
 * Keeps what it has read in this process's memory, so that reading it again asks nobody. Whoever writes says so to all
 * instances, and an instance that cannot hear them keeps nothing.
 */
export class TrackedSessions implements SessionEngine {
  readonly kind: SessionEngine['kind']
  readonly #engine: SessionEngine
  readonly #fleet: Pick<FastifyFleet, 'publish' | 'subscribe'>
  readonly #kept = new Map<string, { text: string; until: number }>()
  /** Reads under way: what is written meanwhile may not be in their answer, so that is not kept. */
  readonly #reading = new Map<string, symbol>()
  #hears = false

  constructor(engine: SessionEngine, fleet: Pick<FastifyFleet, 'publish' | 'subscribe'>) {
    this.kind = engine.kind
    this.#engine = engine
    this.#fleet = fleet
    fleet.subscribe<string>(channel, (id) => this.#drop(id), {
      onReconnect: () => this.#listen(true),
      onLost: () => this.#listen(false),
    })
  }

  async read(id: string): Promise<string | null> {
    const kept = this.#kept.get(id)
    if (kept && kept.until > Date.now()) return kept.text
    const read = Symbol(id)
    this.#reading.set(id, read)
    try {
      const text = await this.#engine.read(id)
      if (text !== null && this.#hears && this.#reading.get(id) === read) this.#keep(id, text)
      return text
    } finally {
      if (this.#reading.get(id) === read) this.#reading.delete(id)
    }
  }

  async put(id: string, text: string, ttlMs: number): Promise<void> {
    await this.#tell(id, this.#engine.put(id, text, ttlMs))
  }

  replace(id: string, text: string, ttlMs: number): Promise<boolean> {
    return this.#tell(id, this.#engine.replace(id, text, ttlMs))
  }

  merge(id: string, changes: Members, ttlMs: number): Promise<boolean> {
    return this.#tell(id, this.#engine.merge(id, changes, ttlMs))
  }

  destroy(id: string): Promise<boolean> {
    return this.#tell(id, this.#engine.destroy(id))
  }

  remember(user: string, id: string, ttlMs: number): Promise<void> {
    return this.#engine.remember(user, id, ttlMs)
  }

  forget(user: string, id: string): Promise<void> {
    return this.#engine.forget(user, id)
  }

  ids(user: string): Promise<string[]> {
    return this.#engine.ids(user)
  }

  async #tell<T>(id: string, written: Promise<T>): Promise<T> {
    const result = await written
    this.#drop(id)
    await this.#fleet.publish(channel, id)
    return result
  }

  #keep(id: string, text: string): void {
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size < maxTracked) break
      this.#kept.delete(oldest)
    }
    this.#kept.set(id, { text, until: Date.now() + maxAgeMs })
  }

  #drop(id: string): void {
    this.#kept.delete(id)
    this.#reading.delete(id)
  }

  #listen(hears: boolean): void {
    this.#hears = hears
    this.#kept.clear()
    this.#reading.clear()
  }
}
