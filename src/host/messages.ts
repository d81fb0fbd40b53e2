import type { Refusal } from '../base/refuse-group.ts'

/** One metric of one process, as returned by prom-client's `getMetricsAsJSON()`. */
export interface Metric {
  readonly name: string
  readonly help: string
  readonly type: string
  /** How the values of several processes are combined. @default 'sum' */
  readonly aggregator?: string
  readonly values: readonly MetricValue[]
}
export interface MetricValue {
  readonly value: number
  readonly labels: Readonly<Record<string, string | number>>
  /** Name of the series, where a metric has several, such as a histogram. */
  readonly metricName?: string
}
/** All metrics of one registry. */
export type Snapshot = readonly Metric[]

/**
 * Messages from a worker to its parent process. The string is pm2's protocol, which any app may use; the objects are sent
 * by this package's worker plugin to `fleet start`.
 */
export type FromWorker =
  /** The instance listens and its critical checks pass. */
  | 'ready'
  /** The plugin is loaded: `ready` will follow, and a heartbeat every second. */
  | { readonly fleet: 'hello' }
  /** `rss`: resident set size in bytes. */
  | { readonly fleet: 'beat'; readonly rss: number }
  | Refusal
  /** An operator drained this worker, or reverted it. The workers share one port, so the others must follow. */
  | { readonly fleet: 'drain' | 'undrain' }
  /** `/metrics` of this worker was requested: it needs the metrics of all workers. */
  | { readonly fleet: 'scrape'; readonly id: number }
  /** The response to `collect`; without an id, the last metrics before the worker ends. */
  | { readonly fleet: 'figures'; readonly id?: number; readonly snapshots: readonly Snapshot[] }

/** Messages from `fleet start` to its workers. */
export type ToWorker =
  /** Drain, close, exit. `handover`: others keep listening on the port, so the load balancer need not notice first. */
  | { readonly fleet: 'shutdown'; readonly handover: boolean }
  | { readonly fleet: 'drain' | 'undrain' }
  | { readonly fleet: 'collect'; readonly id: number }
  /** Another worker ended by itself; `how` is its signal or exit code. */
  | { readonly fleet: 'ended'; readonly instance: string; readonly how: string }
  /** The response to `scrape`. */
  | { readonly fleet: 'group'; readonly id: number; readonly snapshots: readonly Snapshot[] }

/** Distinguishes this protocol from messages of an app or a library (prom-client, pm2) on the same channel. */
export function isFleetMessage<T extends object>(message: unknown): message is T {
  return typeof message === 'object' && message !== null && 'fleet' in message
}
