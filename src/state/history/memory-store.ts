import { eventOf, fieldsOf, type NewEvent, type StoredEvent } from './events.ts'
import {
  addCounts,
  type BucketKind,
  type Counts,
  type EventQuery,
  goneMs,
  type HistoryStore,
  type HistoryWrite,
  keptMs,
  limitMs,
  maxEvents,
  maxGone,
  maxLimited,
  maxRoutes,
  minuteMs,
  type RecordOptions,
  routesMs,
  startOf,
} from './store.ts'

interface Buckets {
  readonly step: Map<number, Counts>
  readonly minute: Map<number, Counts>
  readonly routes: Map<number, Map<string, Counts>>
}

/** The history of a single instance without Redis. */
export class MemoryHistoryStore implements HistoryStore {
  readonly #buckets: Buckets = { step: new Map(), minute: new Map(), routes: new Map() }
  readonly #events: StoredEvent[] = []
  /** When the end of a process was recorded. */
  readonly #gone = new Map<string, number>()
  readonly #limits = new Map<string, number>()
  #limitsUntil = 0
  #lastMs = 0
  #sequence = 0

  async time(): Promise<number> {
    return Date.now()
  }

  async add({ start, counts, routes, process, back }: HistoryWrite): Promise<number> {
    const now = Date.now()
    this.#forget(now)
    const step = bucket(this.#buckets.step, start, () => new Map())
    const minute = bucket(this.#buckets.minute, startOf(start, minuteMs), () => new Map())
    for (const each of [step, minute]) addCounts(each, counts)
    minute.set('i', Math.max(minute.get('i') ?? 0, step.get('n') ?? 0))
    if (routes.size > 0) {
      const known = bucket(this.#buckets.routes, startOf(start, routesMs), () => new Map<string, Counts>())
      for (const [name, more] of routes) addCounts(routeIn(known, name), more)
    }
    if (this.#gone.delete(process)) await this.record(back)
    return now
  }

  async record(event: NewEvent, { process, limit }: RecordOptions = {}): Promise<boolean> {
    const now = Date.now()
    if (process !== undefined) {
      if (this.#gone.has(process)) return false
      this.#gone.set(process, now)
    }
    if (limit !== undefined) {
      if (now >= this.#limitsUntil) {
        this.#limits.clear()
        this.#limitsUntil = now + limitMs
      }
      const count = (this.#limits.get(limit) ?? 0) + 1
      this.#limits.set(limit, count)
      if (count > maxLimited) return false
    }
    this.#sequence = now > this.#lastMs ? 0 : this.#sequence + 1
    this.#lastMs = Math.max(now, this.#lastMs)
    const stored = eventOf(`${this.#lastMs}-${this.#sequence}`, fieldsOf(event))
    if (stored) this.#events.push(stored)
    if (this.#events.length > maxEvents) this.#events.shift()
    return stored !== undefined
  }

  async unrecorded(processes: readonly string[]): Promise<string[]> {
    return processes.filter((process) => !this.#gone.has(process))
  }

  async counts(kind: 'step' | 'minute', starts: readonly number[]): Promise<(Counts | undefined)[]> {
    return starts.map((start) => this.#buckets[kind].get(start))
  }

  async routes(starts: readonly number[]): Promise<(ReadonlyMap<string, Counts> | undefined)[]> {
    return starts.map((start) => this.#buckets.routes.get(start))
  }

  async events({ before, after, limit }: EventQuery): Promise<StoredEvent[]> {
    const found = this.#events.filter(
      ({ id }) => (before === undefined || isEarlier(id, before)) && (after === undefined || isEarlier(after, id)),
    )
    return (after === undefined ? found.slice(-limit) : found.slice(0, limit)).reverse()
  }

  #forget(now: number): void {
    for (const [kind, buckets] of Object.entries(this.#buckets) as [BucketKind, Map<number, unknown>][])
      for (const start of buckets.keys()) if (start < now - keptMs[kind]) buckets.delete(start)
    for (const [process, at] of this.#gone)
      if (at < now - goneMs || this.#gone.size > maxGone) this.#gone.delete(process)
  }
}

function bucket<T>(buckets: Map<number, T>, start: number, create: () => T): T {
  const found = buckets.get(start) ?? create()
  buckets.set(start, found)
  return found
}

function routeIn(routes: Map<string, Counts>, name: string): Counts {
  const key = routes.has(name) || routes.size < maxRoutes ? name : ''
  const found = routes.get(key) ?? new Map<string, number>()
  routes.set(key, found)
  return found
}

function isEarlier(id: string, other: string): boolean {
  const [[ms, sequence], [otherMs, otherSequence]] = [numbers(id), numbers(other)]
  return ms === otherMs ? sequence < otherSequence : ms < otherMs
}
const numbers = (id: string): [number, number] => id.split('-').map(Number) as [number, number]
