import type { Peer } from '../../instance/identity.ts'
import type { HeartbeatReply, Position } from './redis-directory.ts'
import {
  type EntryRejection,
  type Facts,
  type Figures,
  namesOf,
  noFigures,
  type SignedEntries,
  type VerifiedFacts,
  validMs,
} from './signed-entries.ts'

interface KnownPeer {
  readonly facts: Facts
  readonly figures: Figures
  readonly boot: string
  readonly signedAt: number
  /** The entry as it was read. */
  readonly stored: string
  /** When the list had its last figures, Unix time in ms. */
  readonly seenAt: number
}

/**
 * Called for a process that is no longer in the list, with its last entry.
 *
 * @param isSeen `false`: this instance started after the end of the process, so `lastSeen` is only the time of its signature
 */
export type GoneListener = (peer: Peer, isSeen: boolean) => void

/** Tolerated clock difference between the machines of two processes with the same id, ms. */
const bootSkewMs = 10_000
/** Other applications may write to this Redis. */
const maxInstances = 10_000
/** Interval of the check for expired signatures, ms. */
const sweepMs = 30_000

/** The other instances whose entries carry a valid signature. */
export class Peers {
  /** When the list was last confirmed, Unix time in ms. */
  confirmedAt = 0
  readonly #own: string
  readonly #graceMs: number
  readonly #entries: SignedEntries
  readonly #onRejected: (reason: EntryRejection, id: string) => void
  readonly #onGone: GoneListener
  readonly #known = new Map<string, KnownPeer>()
  /** Peers that are missing after Redis lost its data. They are kept until this time, because they may come back. */
  readonly #missing = new Map<string, number>()
  #position: Position = start
  /** Ids that the reading of all entries has found so far; undefined once it is complete. */
  #found: Set<string> | undefined
  #generation = 0
  /** Number of peers that `sample()` has returned. */
  #sampled = 0
  #sweepAt = 0

  /**
   * @param graceMs how long peers that are missing after a loss of data are kept
   * @param onRejected called for each entry that is ignored
   */
  constructor(
    own: string,
    graceMs: number,
    entries: SignedEntries,
    onRejected: (reason: EntryRejection, id: string) => void = () => {},
    onGone: GoneListener = () => {},
  ) {
    this.#own = own
    this.#graceMs = graceMs
    this.#entries = entries
    this.#onRejected = onRejected
    this.#onGone = onGone
  }

  /** Where to continue reading; the start if the secrets have changed, because ignored entries may be valid now. */
  get position(): Position {
    const { generation } = this.#entries
    if (generation !== this.#generation) this.#position = start
    this.#generation = generation
    return this.#position
  }

  /** @returns whether the next call has more changes or entries */
  apply({ epoch, version, cursor, more, full, changes, removed, loads }: HeartbeatReply): boolean {
    const now = Date.now()
    // No instance could sign again while Redis was unavailable.
    if (now - this.confirmedAt > this.#graceMs) this.#sweepAt = now + Math.max(sweepMs, this.#graceMs)
    this.confirmedAt = now
    for (const [id, stored] of removed) this.#unseen(id, stored)
    for (const [id, stored] of changes) if (id !== this.#own) this.#change(id, stored)
    for (const [id, load] of loads) this.#figures(id, load)
    if (full) this.#found = new Set()
    for (const id of changes.keys()) this.#found?.add(id)
    const isCapped = this.#found !== undefined && this.#found.size >= maxInstances
    this.#position = { epoch, version, cursor: isCapped ? '' : cursor }
    if (this.#found && this.#position.cursor === '') {
      this.#miss(this.#found)
      this.#found = undefined
    }
    for (const [id, until] of this.#missing)
      if (until <= performance.now()) {
        this.#remove(id)
      }
    if (now >= this.#sweepAt) this.#sweep(now)
    return more && !isCapped
  }

  #change(id: string, stored: string | undefined): void {
    if (stored === undefined) {
      this.#remove(id)
      return
    }
    const before = this.#known.get(id)
    if (before?.stored === stored && Date.now() - before.signedAt < validMs) {
      this.#missing.delete(id)
      return
    }
    const signed = this.#entries.open(id, stored)
    // Keep the known facts: the instance replaces an entry that was overwritten.
    if (typeof signed === 'string') {
      this.#onRejected(signed, id)
      return
    }
    // An old entry that was written back.
    const skewMs = before?.boot === signed.boot ? 0 : bootSkewMs
    if (before && signed.signedAt < before.signedAt - skewMs) {
      this.#onRejected('stale', id)
      return
    }
    if (before && before.boot !== signed.boot) this.#onGone(peerOf(before), true)
    this.#missing.delete(id)
    this.#known.set(id, { ...signed, stored, figures: before?.figures ?? noFigures, seenAt: Date.now() })
  }

  /** An instance that expired before this one knew it, e.g. when all were killed. */
  #unseen(id: string, stored: string): void {
    const signed = this.#known.has(id) ? undefined : this.#entries.open(id, stored)
    if (typeof signed === 'object') this.#onGone(entryOf(signed), false)
  }

  #remove(id: string): void {
    const known = this.#known.get(id)
    this.#missing.delete(id)
    this.#known.delete(id)
    if (known) this.#onGone(peerOf(known), true)
  }

  #figures(id: string, load: string): void {
    const known = this.#known.get(id)
    if (!known) return
    const figures = this.#entries.openLoad(id, known.boot, load)
    if (typeof figures === 'string') this.#onRejected(figures, id)
    else this.#known.set(id, { ...known, figures, seenAt: this.confirmedAt })
  }

  #miss(present: ReadonlySet<string>): void {
    const until = performance.now() + this.#graceMs
    for (const id of this.#known.keys()) if (!present.has(id) && !this.#missing.has(id)) this.#missing.set(id, until)
  }

  #sweep(now: number): void {
    this.#sweepAt = now + sweepMs
    for (const [id, { signedAt }] of this.#known) if (now - signedAt > validMs) this.#remove(id)
  }

  /** Number of other instances. */
  get size(): number {
    return this.#known.size
  }

  /** Reads all entries again. */
  rewind(): void {
    this.#position = start
  }

  /** The process behind an instance's id. */
  bootOf(id: string): string | undefined {
    return this.#known.get(id)?.boot
  }

  /** The next `count` ids in rotation: all of a small fleet each time, all of a large one after some rounds. */
  sample(count: number): string[] {
    const ids = [...this.#known.keys()]
    const from = this.#sampled % Math.max(1, ids.length)
    const sample = [...ids.slice(from), ...ids.slice(0, from)].slice(0, count)
    this.#sampled += sample.length
    return sample
  }

  /** All instances, sorted by id. */
  list(self: Peer): readonly Peer[] {
    const others = Array.from(this.#known.values(), (known) => peerOf(known, this.confirmedAt))
    return Object.freeze([self, ...others].sort((a, b) => (a.id < b.id ? -1 : 1)))
  }
}

const peerOf = ({ facts, figures, seenAt }: Omit<KnownPeer, 'stored'>, lastSeen: number = seenAt): Peer => ({
  ...facts,
  ...figures,
  degraded: namesOf(facts.checks, figures.degraded),
  lastSeen: new Date(lastSeen).toISOString(),
})

/** An entry without figures. */
export const entryOf = (signed: VerifiedFacts): Peer =>
  peerOf({ ...signed, figures: noFigures, seenAt: signed.signedAt })

const start: Position = { epoch: '', version: 0, cursor: '' }
