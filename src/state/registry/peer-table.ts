import type { Peer } from '../../instance/identity.ts'
import type { Answer, Position } from './directory.ts'

/** Figures that change all the time, in the order in which they travel. */
const figures = ['rps', 'p95', 'eventLoopUtilization', 'memory'] as const
const noFigures = { rps: 0, p95: 0, eventLoopUtilization: 0, memory: 0 }

type Facts = Omit<Peer, 'lastSeen' | (typeof figures)[number]>
type Figures = Pick<Peer, (typeof figures)[number]>

/** The two halves of what an instance tells of itself. */
export function split(peer: Peer): { facts: string; load: string } {
  const facts = { ...peer } as Record<string, unknown>
  for (const name of ['lastSeen', ...figures]) delete facts[name]
  return { facts: JSON.stringify(facts), load: JSON.stringify(figures.map((name) => peer[name])) }
}

/** Stored facts without the mark of the process that stored them. */
export const factsOf = (stored: string): Facts => JSON.parse(stored.slice(stored.indexOf(' ') + 1))

interface Known {
  readonly facts: Facts
  readonly figures: Figures
}

/** The other instances, as this one knows them. */
export class PeerTable {
  position: Position = { epoch: '', version: 0 }
  /** When the list was last confirmed, Unix time in ms. */
  confirmedAt = 0
  readonly #own: string
  readonly #graceMs: number
  readonly #known = new Map<string, Known>()
  /** Gone when Redis lost its data, and kept until then, because they may only have had no turn to come back yet. */
  readonly #missing = new Map<string, number>()
  #turn: Iterator<string> = this.#known.keys()

  /** @param graceMs how long those are kept that are missing after a loss of data */
  constructor(own: string, graceMs: number) {
    this.#own = own
    this.#graceMs = graceMs
  }

  apply({ epoch, version, full, changes, loads }: Answer): void {
    this.position = { epoch, version }
    this.confirmedAt = Date.now()
    for (const [id, stored] of changes) {
      if (id === this.#own) continue
      this.#missing.delete(id)
      if (stored === undefined) this.#known.delete(id)
      else this.#known.set(id, { facts: factsOf(stored), figures: this.#known.get(id)?.figures ?? noFigures })
    }
    for (const [id, load] of loads) {
      const known = this.#known.get(id)
      if (known) this.#known.set(id, { facts: known.facts, figures: toFigures(JSON.parse(load)) })
    }
    if (full) this.#miss(changes)
    for (const [id, until] of this.#missing)
      if (until <= performance.now()) {
        this.#missing.delete(id)
        this.#known.delete(id)
      }
  }

  #miss(present: ReadonlyMap<string, unknown>): void {
    const until = performance.now() + this.#graceMs
    for (const id of this.#known.keys()) if (!present.has(id) && !this.#missing.has(id)) this.#missing.set(id, until)
  }

  /** The position from which everything is read anew. */
  rewind(): void {
    this.position = { epoch: '', version: 0 }
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

const toFigures = (values: readonly number[]): Figures =>
  Object.fromEntries(figures.map((name, i) => [name, values[i] ?? 0])) as unknown as Figures
