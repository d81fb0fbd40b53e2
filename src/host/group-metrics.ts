import type { Metric, MetricValue, Snapshot } from './messages.ts'

/** A process that can be asked for its metrics. It responds through {@link GroupMetrics.receive}. */
export interface MetricsSource {
  /** @returns whether the request could be sent */
  collect(id: number): boolean
}

/** One round of collecting, until all sources responded or the time is over. */
interface Collection {
  readonly id: number
  readonly missing: Set<MetricsSource>
  readonly settle: () => void
}

/**
 * The metrics of a group of processes, combined into those of one.
 *
 * Prometheus treats any decrease of a counter as a restart and counts the whole new value as growth. A sum over processes
 * must therefore never decrease: the counters of a process stay in the sum after it ended, and a process that does not
 * respond is represented by its last values. Gauges come only from processes that respond.
 */
export class GroupMetrics {
  readonly #timeoutMs: number
  readonly #known = new Map<MetricsSource, readonly Snapshot[]>()
  #ended: Snapshot = []
  #gathering: Promise<readonly Snapshot[]> | undefined
  #collection: Collection | undefined
  #lastId = 0
  #silent = 0
  #partialScrapes = 0

  /** @param timeoutMs how long to wait for a source before the metrics are returned without its gauges */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  /** Asks all sources and waits until all responded or the time is over. Concurrent callers share the result. */
  gather(sources: readonly MetricsSource[]): Promise<readonly Snapshot[]> {
    this.#gathering ??= this.#gather(sources).finally(() => {
      this.#gathering = undefined
    })
    return this.#gathering
  }

  /** Takes a source's metrics: those requested with `id`, or without an id the last ones before its end. */
  receive(source: MetricsSource, snapshots: readonly Snapshot[], id?: number): void {
    this.#known.set(source, snapshots)
    if (id !== undefined && id === this.#collection?.id) this.#received(source)
  }

  /** Removes a source that ended. Its counters stay in the sum. */
  remove(source: MetricsSource): void {
    this.#ended = sum([this.#ended, ...(this.#known.get(source) ?? []).map(counted)])
    this.#known.delete(source)
    if (this.#collection) this.#received(source)
  }

  async #gather(sources: readonly MetricsSource[]): Promise<readonly Snapshot[]> {
    const missing = await this.#collect(sources)
    this.#silent = missing.size
    if (this.#silent > 0) this.#partialScrapes++
    const known = [...this.#known].flatMap(([source, snapshots]) =>
      sources.includes(source) && !missing.has(source) ? snapshots : snapshots.map(counted),
    )
    return [...known, this.#ended, this.#own()]
  }

  /** @returns the sources that did not respond in time */
  #collect(sources: readonly MetricsSource[]): Promise<ReadonlySet<MetricsSource>> {
    const id = ++this.#lastId
    const missing = new Set(sources)
    return new Promise((resolve) => {
      const settle = (): void => {
        clearTimeout(timer)
        this.#collection = undefined
        resolve(missing)
      }
      const timer = setTimeout(settle, this.#timeoutMs)
      this.#collection = { id, missing, settle }
      for (const source of sources) source.collect(id)
      if (missing.size === 0) settle()
    })
  }

  #received(source: MetricsSource): void {
    this.#collection?.missing.delete(source)
    if (this.#collection?.missing.size === 0) this.#collection.settle()
  }

  #own(): Snapshot {
    const silent = 'Workers that did not respond to this scrape in time; their gauges are missing'
    const partial = 'Scrapes to which at least one worker did not respond in time'
    return [
      metric('gauge', 'fleet_workers_silent', silent, [{ labels: {}, value: this.#silent }]),
      metric('counter', 'fleet_partial_scrapes_total', partial, [{ labels: {}, value: this.#partialScrapes }]),
    ]
  }
}

/** A metric of the group itself. */
export const metric = (
  type: 'counter' | 'gauge',
  name: string,
  help: string,
  values: readonly MetricValue[],
): Metric => ({ type, name, help, values, aggregator: 'sum' })

/** The number of workers, and the number of restarts by reason. */
export const workerMetrics = (
  { up, of }: { readonly up: number; readonly of: number },
  starts: Readonly<Record<string, number>>,
): Snapshot => [
  metric('gauge', 'fleet_workers', 'Workers by state: serving, or missing', [
    { labels: { state: 'serving' }, value: up },
    { labels: { state: 'missing' }, value: of - up },
  ]),
  metric(
    'counter',
    'fleet_worker_starts_total',
    'Workers started to replace another one, by reason',
    Object.entries(starts).map(([reason, value]) => ({ labels: { reason }, value })),
  ),
]

/** The metrics that only increase: counters, histograms, and summaries without their quantiles. */
export function counted(snapshot: Snapshot): Snapshot {
  return snapshot
    .filter(({ type }) => type !== 'gauge')
    .map((metric) => ({ ...metric, values: metric.values.filter(({ labels }) => !('quantile' in labels)) }))
}

/**
 * Removes the quantiles of summaries that several snapshots have. No combination of two medians is the median of all
 * observations. The count and the sum of a summary add up.
 */
export function withoutMergedQuantiles(snapshots: readonly Snapshot[]): readonly Snapshot[] {
  const isQuantile = ({ labels }: MetricValue): boolean => 'quantile' in labels
  const summaries = snapshots.map((snapshot) =>
    snapshot.filter(({ type, values }) => type === 'summary' && values.some(isQuantile)).map(({ name }) => name),
  )
  const names = summaries.flat()
  const shared = new Set(names.filter((name, index) => names.indexOf(name) !== index))
  return snapshots.map((snapshot) =>
    snapshot.map((metric) =>
      shared.has(metric.name) && metric.type === 'summary'
        ? { ...metric, values: metric.values.filter((value) => !isQuantile(value)) }
        : metric,
    ),
  )
}

/** Adds up series of the same name and labels. */
export function sum(snapshots: readonly Snapshot[]): Snapshot {
  const totals = new Map<string, { metric: Metric; values: Map<string, MetricValue> }>()
  for (const metric of snapshots.flat()) {
    const total = totals.get(metric.name) ?? { metric, values: new Map() }
    totals.set(metric.name, total)
    for (const item of metric.values) {
      const key = JSON.stringify([item.metricName, item.labels])
      total.values.set(key, { ...item, value: item.value + (total.values.get(key)?.value ?? 0) })
    }
  }
  return [...totals.values()].map(({ metric, values }) => ({ ...metric, values: [...values.values()] }))
}
