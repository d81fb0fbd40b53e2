import type { Peer } from '../../instance/identity.ts'
import { type Entries, type EntryRejection, type Facts, type Figures, noFigures, validMs } from './entries.ts'
import type { Answer, Position } from './redis-directory.ts'

interface Known {
  readonly facts: Facts
  readonly figures: Figures
  readonly boot: string
  readonly signedAt: number
}

/** So far may the clock of the machine that an instance moves to be behind, ms. */
const bootSkewMs = 10_000
/** Between two looks for signatures that are too old, ms. */
const sweepMs = 30_000

/** The other instances, as this one knows them: those alone whose entries are signed by the fleet. */
export class PeerTable {
  /** When the list was last confirmed, Unix time in ms. */
  confirmedAt = 0
  readonly #own: string
  readonly #graceMs: number
  readonly #entries: Entries
  readonly #rejected: (reason: EntryRejection, id: string) => void
  readonly #known = new Map<string, Known>()
  /** Gone when Redis lost its data, and kept until then, because they may only have had no turn to come back yet. */
  readonly #missing = new Map<string, number>()
  #position: Position = start
  #generation = 0
  #turn: Iterator<string> = this.#known.keys()
  #sweepAt = 0

  /**
   * @param graceMs how long those are kept that are missing after a loss of data
   * @param rejected told of each entry that is ignored
   */
  constructor(
    own: string,
    graceMs: number,
    entries: Entries,
    rejected: (reason: EntryRejection, id: string) => void = () => {},
  ) {
    this.#own = own
    this.#graceMs = graceMs
    this.#entries = entries
    this.#rejected = rejected
  }

  /** From where to read on; from the start when the secrets have changed, because what was ignored may be good now. */
  get position(): Position {
    const { generation } = this.#entries
    if (generation !== this.#generation) this.#position = start
    this.#generation = generation
    return this.#position
  }

  apply({ epoch, version, full, changes, loads }: Answer): void {
    const now = Date.now()
    // Nobody could sign anew while Redis was away.
    if (now - this.confirmedAt > this.#graceMs) this.#sweepAt = now + Math.max(sweepMs, this.#graceMs)
    this.#position = { epoch, version }
    this.confirmedAt = now
    for (const [id, stored] of changes) if (id !== this.#own) this.#change(id, stored)
    for (const [id, load] of loads) this.#figures(id, load)
    if (full) this.#miss(changes)
    for (const [id, until] of this.#missing)
      if (until <= performance.now()) {
        this.#missing.delete(id)
        this.#known.delete(id)
      }
    if (now >= this.#sweepAt) this.#sweep(now)
  }

  #change(id: string, stored: string | undefined): void {
    if (stored === undefined) {
      this.#missing.delete(id)
      this.#known.delete(id)
      return
    }
    const signed = this.#entries.open(id, stored)
    // What was known stays: the instance itself replaces an entry that somebody has overwritten.
    if (typeof signed === 'string') {
      this.#rejected(signed, id)
      return
    }
    const before = this.#known.get(id)
    // One that was copied earlier and put back.
    const skewMs = before?.boot === signed.boot ? 0 : bootSkewMs
    if (before && signed.signedAt < before.signedAt - skewMs) {
      this.#rejected('stale', id)
      return
    }
    this.#missing.delete(id)
    this.#known.set(id, { ...signed, figures: before?.figures ?? noFigures })
  }

  #figures(id: string, load: string): void {
    const known = this.#known.get(id)
    if (!known) return
    const figures = this.#entries.openLoad(id, known.boot, load)
    if (typeof figures === 'string') this.#rejected(figures, id)
    else this.#known.set(id, { ...known, figures })
  }

  #miss(present: ReadonlyMap<string, unknown>): void {
    const until = performance.now() + this.#graceMs
    for (const id of this.#known.keys()) if (!present.has(id) && !this.#missing.has(id)) this.#missing.set(id, until)
  }

  #sweep(now: number): void {
    this.#sweepAt = now + sweepMs
    for (const [id, { signedAt }] of this.#known) if (now - signedAt > validMs) this.#known.delete(id)
  }

  /** Lets everything be read anew. */
  rewind(): void {
    this.#position = start
  }

  /** The process that an instance is, by its entry. */
  bootOf(id: string): string | undefined {
    return this.#known.get(id)?.boot
  }

  /** The next `count` ids in turn: all of a small fleet each time, all of a large one in some rounds. */
  sample(count: number): string[] {
    const ids: string[] = []
    while (ids.length < Math.min(count, this.#known.size)) {
      const { value, done } = this.#turn.next()
      if (done) this.#turn = this.#known.keys()
      else ids.push(value)
    }
    return ids
  }

  /** Everybody, sorted by id. */
  list(self: Peer): readonly Peer[] {
    const lastSeen = new Date(this.confirmedAt).toISOString()
    const others = Array.from(this.#known.values(), ({ facts, figures }): Peer => ({ ...facts, ...figures, lastSeen }))
    return Object.freeze([self, ...others].sort((a, b) => (a.id < b.id ? -1 : 1)))
  }
}

const start: Position = { epoch: '', version: 0 }
