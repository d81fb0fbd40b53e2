import { Invalidations, type Kind, type Message } from './invalidation.ts'
import { type Entry, type LocalLimits, LocalStore } from './local.ts'
import type { Ask, Shared, SharedStore } from './shared.ts'
import type { Encoded } from './value.ts'

/** Somebody who reads `key`, and must not remember what it read once that was invalidated. */
export interface Reading {
  readonly key: string
  /** Grows when the value that is found has tags of its own. */
  readonly tags: Set<string>
  outdated: boolean
}

export interface Found {
  readonly found?: Shared
  readonly leased: boolean
  /** Those of the reading's tags, as they were before the answer. */
  readonly stamps: Readonly<Record<string, string>>
}

/** How long a stamp must live that is only looked at, ms. */
const glanceMs = 1_000

/** Memory over Redis, and the way from one to the other: only what is still valid comes into memory, or stays there. */
export class Layers {
  readonly local: LocalStore
  readonly shared: SharedStore | null
  readonly #invalidations: Invalidations | null
  readonly #readings = new Set<Reading>()
  readonly #offlineTtlMs: number
  /** Whether invalidations by peers arrive. */
  #connected: boolean

  constructor(
    options: LocalLimits & { readonly offlineTtlMs: number },
    shared: SharedStore | null,
    publish: (message: Message) => Promise<void>,
  ) {
    this.local = new LocalStore(options)
    this.shared = shared
    this.#invalidations = shared && new Invalidations(shared, publish)
    this.#offlineTtlMs = options.offlineTtlMs
    this.#connected = shared === null
  }

  begin(reading: Reading): void {
    this.#readings.add(reading)
  }

  end(reading: Reading): void {
    this.#readings.delete(reading)
  }

  /**
   * What Redis has, when all its tags still hold.
   *
   * @throws when Redis does not answer, or has not been told yet what is no longer valid
   */
  async ask(shared: SharedStore, reading: Reading, ask: Ask, lifeMs: number): Promise<Found> {
    this.#mustBeTold(reading)
    const [stamps, { found, leased }] = await Promise.all([
      shared.stamps([...reading.tags], lifeMs),
      shared.ask(reading.key, ask),
    ])
    if (!found) return { leased, stamps }
    for (const tag of Object.keys(found.stamps)) reading.tags.add(tag)
    this.#mustBeTold(reading)
    if (await holds(shared, found, stamps)) return { found, leased, stamps }
    if (leased || !ask.token) return { leased, stamps }
    return this.ask(shared, reading, { ...ask, reject: found.id }, lifeMs)
  }

  /** Takes over what Redis had. */
  adopt(reading: Reading, { value, bytes, stamps, freshMs }: Shared): Entry {
    const entry = this.#entry({ value, bytes }, Object.keys(stamps), freshMs)
    if (!reading.outdated) this.local.set(reading.key, entry)
    return entry
  }

  /** @param alone Redis does not know the value, so that nobody can invalidate it there */
  remember(reading: Reading, encoded: Encoded, tags: readonly string[], freshMs: number, alone: boolean): Entry {
    const entry = this.#entry(encoded, tags, alone && this.shared ? Math.min(freshMs, this.#offlineTtlMs) : freshMs)
    if (!reading.outdated) this.local.set(reading.key, entry)
    return entry
  }

  /** Replaces or forgets what the whole fleet has. */
  async change(kind: Kind, name: string, change?: () => Promise<void>): Promise<void> {
    await this.#invalidations?.tell(kind, name, change)
  }

  wakeOthers(key: string): void {
    this.#invalidations?.wake(key)
  }

  isOwn(message: Message): boolean {
    return message.from === this.#invalidations?.from
  }

  invalidate(kind: Kind, name: string): void {
    if (kind === 'key') this.local.delete(name)
    else this.local.deleteByTag(name)
    for (const reading of this.#readings)
      if (kind === 'key' ? reading.key === name : reading.tags.has(name)) reading.outdated = true
  }

  /** Invalidations may have been missed: nothing in memory is fresh any more; as stale values it may still serve. */
  distrust(connected: boolean): void {
    this.#connected = connected
    this.local.expireAll()
    for (const reading of this.#readings) reading.outdated = true
  }

  close(): void {
    this.#invalidations?.close()
  }

  #entry({ value, bytes }: Pick<Encoded, 'value' | 'bytes'>, tags: readonly string[], freshMs: number): Entry {
    const expiresAt = performance.now() + (this.#connected ? freshMs : Math.min(freshMs, this.#offlineTtlMs))
    return { promise: Promise.resolve(value), tags, bytes, expiresAt, freshUntil: expiresAt, visited: false }
  }

  #mustBeTold({ key, tags }: Reading): void {
    const owed = this.#invalidations
    if (owed?.owes('key', key) || [...tags].some((tag) => owed?.owes('tag', tag)))
      throw new Error('Redis has a value that is no longer valid')
  }
}

async function holds(shared: SharedStore, found: Shared, known: Readonly<Record<string, string>>): Promise<boolean> {
  const tags = Object.keys(found.stamps)
  const others = await shared.stamps(
    tags.filter((tag) => !Object.hasOwn(known, tag)),
    glanceMs,
  )
  return tags.every((tag) => found.stamps[tag] === (Object.hasOwn(known, tag) ? known[tag] : others[tag]))
}
