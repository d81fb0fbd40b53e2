/** One metric of one process, as prom-client's `getMetricsAsJSON()` gives it. */
export interface Figure {
  readonly name: string
  readonly help: string
  readonly type: string
  /** How values of several processes become one; sum unless given. */
  readonly aggregator?: string
  readonly values: readonly FigureValue[]
}
export interface FigureValue {
  readonly value: number
  readonly labels: Readonly<Record<string, string | number>>
  /** Where one metric has several series, as histograms do. */
  readonly metricName?: string
}
/** All figures of one registry. */
export type Snapshot = readonly Figure[]

/**
 * What a worker tells the process above it. The string is pm2's protocol, which any app may speak; the objects are what
 * this package's worker plugin says to `fleet start`.
 */
export type FromWorker =
  /** The instance listens, and its critical checks pass. */
  | 'ready'
  /** The plugin is there: `ready` will come, and a beat every second. */
  | { readonly fleet: 'hello' }
  /** `rss`: resident set size in bytes. */
  | { readonly fleet: 'beat'; readonly rss: number }
  /** An operator drained this worker, or took that back. The workers share one port, so the others must follow. */
  | { readonly fleet: 'drain' | 'undrain' }
  /** Somebody asks this worker for `/metrics`: it wants everybody's. */
  | { readonly fleet: 'scrape'; readonly id: number }
  /** The answer to `collect`; without an id these are the last figures before the end. */
  | { readonly fleet: 'figures'; readonly id?: number; readonly snapshots: readonly Snapshot[] }

/** What `fleet start` tells its workers. */
export type ToWorker =
  /** Drain, close, end. `handover`: others go on listening on the same port, so no front must be told first. */
  | { readonly fleet: 'shutdown'; readonly handover: boolean }
  | { readonly fleet: 'drain' | 'undrain' }
  | { readonly fleet: 'collect'; readonly id: number }
  /** The answer to `scrape`. */
  | { readonly fleet: 'group'; readonly id: number; readonly snapshots: readonly Snapshot[] }

/** Tells this protocol from what an app or a library (prom-client, pm2) sends on the same channel. */
export function isFleetMessage<T extends object>(message: unknown): message is T {
  return typeof message === 'object' && message !== null && 'fleet' in message
}
