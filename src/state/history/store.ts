import type { NewEvent, StoredEvent } from './events.ts'

/** Time that a point covers, ms: of the last hour, and of the last day. */
export const stepMs = 10_000
export const minuteMs = 60_000
/** Time that a bucket of routes covers, ms. With buckets of a minute, routes could need half as much memory as all the rest. */
export const routesMs = 180_000
/** How long buckets are kept, ms. Readers ask for full hours and days, up to a step late. */
export const keptMs = { step: 3_600_000 + 120_000, minute: 86_400_000 + 300_000, routes: 900_000 + routesMs } as const
export type BucketKind = keyof typeof keptMs
/** Largest number of routes in a bucket; all others are counted together under the name ''. */
export const maxRoutes = 200
/** Number of events that are kept, at least. */
export const maxEvents = 2_000
/** Number of processes whose end is remembered, and for how long, ms. */
export const [maxGone, goneMs] = [2_000, 86_400_000]
/** Events of one `limit` in `limitMs`, of all instances together. */
export const [maxLimited, limitMs] = [20, 60_000]

/** Named counts. Names that a reader does not know are ignored, because another version may have written them. */
export type Counts = Map<string, number>

/** What one instance adds in one call. */
export interface HistoryWrite {
  /** Start of the step, a multiple of `stepMs` by the clock of the store. */
  readonly start: number
  /** Added to the bucket of the step and to that of its minute. `n` is 1, and counts the instances of the step. */
  readonly counts: Counts
  /** Added to the bucket of routes, by `METHOD PATH`. */
  readonly routes: ReadonlyMap<string, Counts>
  /** This process. If its end was recorded, it is forgotten, and `back` is recorded. */
  readonly process: string
  readonly back: NewEvent
}

export interface RecordOptions {
  /** The process whose end the event reports. The end of a process is recorded once. */
  readonly process?: string
  /** Records at most `maxLimited` events of this name in `limitMs`, so that a thousand instances do not displace all others. */
  readonly limit?: string
}

/** Exclusive bounds by id. */
export interface EventQuery {
  readonly before?: string
  readonly after?: string
  readonly limit: number
}

/** Where the history of the fleet is kept. Every method may reject with FLEET_ERR_STATE_UNAVAILABLE. */
export interface HistoryStore {
  /** @returns the time by the clock of the store, Unix time in ms */
  time(): Promise<number>
  /** @returns the time by the clock of the store */
  add(write: HistoryWrite): Promise<number>
  /** @returns whether it was recorded */
  record(event: NewEvent, options?: RecordOptions): Promise<boolean>
  /** @returns those of the processes whose end is not recorded */
  unrecorded(processes: readonly string[]): Promise<string[]>
  /** @returns counts by bucket, `undefined` for those without */
  counts(kind: 'step' | 'minute', starts: readonly number[]): Promise<(Counts | undefined)[]>
  /** @returns counts by route and bucket */
  routes(starts: readonly number[]): Promise<(ReadonlyMap<string, Counts> | undefined)[]>
  /** Newest first; with `after`, the oldest of them if there are more than `limit`. */
  events(query: EventQuery): Promise<StoredEvent[]>
}

/** Start of the bucket of `ms` that contains a time. */
export const startOf = (time: number, ms: number): number => time - (time % ms)

/** Counts as text: `name:number`, separated by spaces. */
export const packed = (counts: Counts): string => Array.from(counts, ([name, count]) => `${name}:${count}`).join(' ')

/** Reads what any program may have written: everything that is not a count is skipped. */
export function unpacked(text: string): Counts {
  const counts: Counts = new Map()
  for (const part of text.split(' ', 512)) {
    const colon = part.indexOf(':')
    addCount(counts, part.slice(0, colon), Number(part.slice(colon + 1)))
  }
  return counts
}

export function addCount(counts: Counts, name: string, count: number): void {
  if (name !== '' && Number.isSafeInteger(count) && count > 0) counts.set(name, (counts.get(name) ?? 0) + count)
}

/** Adds `more` to `counts`. Of `m`, the number of routes that are counted together, the larger one counts. */
export function addCounts(counts: Counts, more: Counts): void {
  for (const [name, count] of more) {
    if (name === 'm') counts.set(name, Math.max(counts.get(name) ?? 0, count))
    else addCount(counts, name, count)
  }
}
