import type { Figure, FigureValue, Snapshot } from './messages.ts'

/** Somebody who can be asked for figures. The answer comes to {@link GroupMetrics.answer}. */
export interface Source {
  /** @returns whether the question could be sent */
  collect(id: number): boolean
}

interface Question {
  readonly id: number
  readonly missing: Set<Source>
  readonly settle: () => void
}

/**
 * The figures of a group of processes, to be read as those of one.
 *
 * Prometheus takes any decrease of a counter for a restart, and counts the whole of the new value as growth. A sum over
 * processes must therefore never fall: what a process has counted stays in the sum after its end, and a silent process
 * is represented by what it said last. Gauges come only from those who answer.
 */
export class GroupMetrics {
  readonly #timeoutMs: number
  readonly #known = new Map<Source, readonly Snapshot[]>()
  #departed: Snapshot = []
  #gathering: Promise<readonly Snapshot[]> | undefined
  #question: Question | undefined
  #lastId = 0
  #silent = 0
  #partialScrapes = 0

  /** @param timeoutMs how long an answer may take before the group's figures are given without it */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  /** Asks all sources and waits for the answers, but not beyond the limit. Who asks meanwhile shares the result. */
  gather(sources: readonly Source[]): Promise<readonly Snapshot[]> {
    this.#gathering ??= this.#gather(sources).finally(() => {
      this.#gathering = undefined
    })
    return this.#gathering
  }

  /** A source's figures: asked for by this `id`, or its last ones before the end. */
  answer(source: Source, snapshots: readonly Snapshot[], id?: number): void {
    this.#known.set(source, snapshots)
    if (id !== undefined && id === this.#question?.id) this.#heard(source)
  }

  /** The source has ended. What it has counted is kept. */
  depart(source: Source): void {
    this.#departed = sum([this.#departed, ...(this.#known.get(source) ?? []).map(counted)])
    this.#known.delete(source)
    if (this.#question) this.#heard(source)
  }

  async #gather(sources: readonly Source[]): Promise<readonly Snapshot[]> {
    const missing = await this.#ask(sources)
    this.#silent = missing.size
    if (this.#silent > 0) this.#partialScrapes++
    const known = [...this.#known].flatMap(([source, snapshots]) =>
      sources.includes(source) && !missing.has(source) ? snapshots : snapshots.map(counted),
    )
    return [...known, this.#departed, this.#own()]
  }

  /** @returns the sources that did not answer in time */
  #ask(sources: readonly Source[]): Promise<ReadonlySet<Source>> {
    const id = ++this.#lastId
    const missing = new Set(sources)
    return new Promise((resolve) => {
      const settle = (): void => {
        clearTimeout(timer)
        this.#question = undefined
        resolve(missing)
      }
      const timer = setTimeout(settle, this.#timeoutMs)
      this.#question = { id, missing, settle }
      for (const source of sources) source.collect(id)
      if (missing.size === 0) settle()
    })
  }

  #heard(source: Source): void {
    this.#question?.missing.delete(source)
    if (this.#question?.missing.size === 0) this.#question.settle()
  }

  #own(): Snapshot {
    const silent = 'Workers that did not answer this scrape in time; their gauges are missing from it'
    const partial = 'Scrapes in which at least one worker did not answer in time'
    return [
      figure('gauge', 'fleet_workers_silent', silent, [{ labels: {}, value: this.#silent }]),
      figure('counter', 'fleet_partial_scrapes_total', partial, [{ labels: {}, value: this.#partialScrapes }]),
    ]
  }
}

/** A figure of the group itself. */
export const figure = (
  type: 'counter' | 'gauge',
  name: string,
  help: string,
  values: readonly FigureValue[],
): Figure => ({ type, name, help, values, aggregator: 'sum' })

/** How many workers there are, and why others were started. */
export const workerFigures = (
  { up, of }: { readonly up: number; readonly of: number },
  starts: Readonly<Record<string, number>>,
): Snapshot => [
  figure('gauge', 'fleet_workers', 'Workers that serve, and those that are missing', [
    { labels: { state: 'serving' }, value: up },
    { labels: { state: 'missing' }, value: of - up },
  ]),
  figure(
    'counter',
    'fleet_worker_starts_total',
    'Workers started in place of another',
    Object.entries(starts).map(([reason, value]) => ({ labels: { reason }, value })),
  ),
]

/** Those figures that only grow: counters and histograms, and of summaries all but the quantiles. */
export function counted(snapshot: Snapshot): Snapshot {
  return snapshot
    .filter(({ type }) => type !== 'gauge')
    .map((figure) => ({ ...figure, values: figure.values.filter(({ labels }) => !('quantile' in labels)) }))
}

/** Adds up series of the same name and labels. */
export function sum(snapshots: readonly Snapshot[]): Snapshot {
  const totals = new Map<string, { figure: Figure; values: Map<string, FigureValue> }>()
  for (const figure of snapshots.flat()) {
    const total = totals.get(figure.name) ?? { figure, values: new Map() }
    totals.set(figure.name, total)
    for (const item of figure.values) {
      const key = JSON.stringify([item.metricName, item.labels])
      total.values.set(key, { ...item, value: item.value + (total.values.get(key)?.value ?? 0) })
    }
  }
  return [...totals.values()].map(({ figure, values }) => ({ ...figure, values: [...values.values()] }))
}
