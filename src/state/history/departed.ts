import { type EndKind, endKinds, type StoredEvent } from './events.ts'
import { type HistoryStore, maxEvents } from './store.ts'

/** An instance that is gone, with what is known of its end. */
export interface Departure {
  readonly id: string
  readonly host: string | null
  readonly port: number | null
  readonly version: string | null
  readonly pool: string | null
  readonly zone: string | null
  readonly reason: EndKind
  /** E.g. `SIGTERM, drained in 5.2 s`. */
  readonly detail: string
  /** Its last state. */
  readonly state: string | null
  readonly lastSeen: number | null
  readonly at: number
}

/** A departure with the start of its process, if that is known. */
type Known = Departure & { readonly startedAt: string | undefined }

/** Largest number of departures, and for how long they are shown, ms. */
export const [maxDeparted, departedMs] = [200, 86_400_000]
/** Shortest time between two reads, ms. */
const readEveryMs = 1_000
/** Number of events that are read at once. */
const atOnce = 500

/** Time within which two reports of an instance are about one process, if one of them does not say which, ms. */
const sameMs = 60_000
const isSame = (other: Known, startedAt: string | undefined, at: number): boolean =>
  other.startedAt === undefined || startedAt === undefined
    ? Math.abs(at - other.at) < sameMs
    : other.startedAt === startedAt

const isEnd = (kind: string): kind is EndKind => (endKinds as readonly string[]).includes(kind)

/** The instances that are gone and have not come back, from the events. Reads each event once. */
export class Departures {
  readonly #store: HistoryStore
  /** By instance, oldest first. */
  readonly #byId = new Map<string, Known>()
  #after: string | undefined
  #readAt = Number.NEGATIVE_INFINITY
  #reading: Promise<void> | undefined

  constructor(store: HistoryStore) {
    this.#store = store
  }

  /** Newest first. While Redis is unavailable, those that were read before. */
  async list(now: number): Promise<readonly Departure[]> {
    if (performance.now() - this.#readAt > readEveryMs) {
      this.#reading ??= this.#read().finally(() => {
        this.#reading = undefined
      })
      await this.#reading.catch(() => {})
    }
    const recent = [...this.#byId.values()].filter(({ at }) => at > now - departedMs)
    return recent.map(({ startedAt: _, ...departure }) => departure).reverse()
  }

  /** The next {@link Departures.list} reads. */
  refresh(): void {
    this.#readAt = Number.NEGATIVE_INFINITY
  }

  async #read(): Promise<void> {
    for (let isBehind = true; isBehind; ) {
      const query = this.#after === undefined ? { limit: maxEvents } : { after: this.#after, limit: atOnce }
      const events = await this.#store.events(query)
      for (const event of events.reverse()) this.apply(event)
      isBehind = query.after !== undefined && events.length === atOnce
    }
    this.#readAt = performance.now()
  }

  apply({ id, at, kind, instance, version, pool, text, entry }: StoredEvent): void {
    this.#after = id
    if (instance === undefined) return
    if (kind === 'started' || kind === 'ready') this.#byId.delete(instance)
    if (!isEnd(kind)) return
    const startedAt = entry?.startedAt
    const other = this.#byId.get(instance)
    const before = other && isSame(other, startedAt, at) ? other : undefined
    // Two witnesses of one end: the exit status says more than the silence, and the entry may be known to one of them only.
    const isKnown = before && kind === 'lost'
    this.#byId.delete(instance)
    this.#byId.set(instance, {
      id: instance,
      host: entry?.host ?? before?.host ?? null,
      port: entry?.port ?? before?.port ?? null,
      version: version ?? before?.version ?? null,
      pool: pool ?? before?.pool ?? null,
      zone: entry?.zone ?? before?.zone ?? null,
      reason: isKnown ? before.reason : kind,
      detail: isKnown ? before.detail : text,
      state: entry?.state ?? before?.state ?? null,
      lastSeen: entry?.lastSeen ?? before?.lastSeen ?? null,
      at: isKnown ? before.at : at,
      startedAt: startedAt ?? before?.startedAt,
    })
    if (this.#byId.size > maxDeparted) this.#byId.delete(this.#byId.keys().next().value as string)
  }
}
