import { int, number, type Resolved } from '../../base/options.ts'
import { guard } from '../boundary.ts'
import type { Target } from './target.ts'

export const outlierOptions = {
  /** Consecutive failures that eject a target; 0: never. */
  consecutive: int(0, 10_000).default(5),
  /** Share of failures within an interval that ejects a target; 0: never. */
  errorShare: number(0, 1).default(0.5),
  /** Ejects a target whose mean latency is more than this many times the median of all; 0: never. */
  latencyFactor: number(0, 1000).default(5),
  /** A target with a mean latency below this is never ejected for latency. */
  latencyFloorMs: int(0, 3_600_000, 'milliseconds').default(100),
  /** Requests per interval below which `errorShare` and `latencyFactor` do not apply. */
  minRequests: int(1, 1_000_000).default(20),
  /** Length of an interval. */
  intervalMs: int(1, 3_600_000, 'milliseconds').default(1000),
  /** Length of an ejection; it doubles with each failed trial, up to 5 min. */
  ejectMs: int(1, 3_600_000, 'milliseconds').default(10_000),
  /** Share of all targets that may be ejected at once. */
  maxEjectedShare: number(0, 1).default(0.5),
}
export type OutlierOptions = Resolved<typeof outlierOptions>

interface Record {
  consecutive: number
  requests: number
  failures: number
  latencySum: number
  /** Consecutive ejections: since the last passed trial, or since the probe brought the target back. */
  ejections: number
  /** Successful responses still needed to pass the trial. */
  trial: number
  timer?: NodeJS.Timeout
}

const maxEjectMs = 300_000
const trialRequests = 3

/**
 * Passive health: observes the responses, ejects targets that do worse than the others, and readmits them on trial. It is
 * the circuit breaker of each target: closed; open while ejected; half-open on trial, where each request waits for the
 * outcome of the previous one and a single failure ejects again. Only outliers are ejected: when all targets fail alike,
 * the cause is shared and fewer targets would not help. Sources: Envoy, "Outlier detection"; Nygard, "Release It!" (2007).
 */
export class Outliers {
  readonly #options: OutlierOptions
  readonly #targets: () => readonly Target[]
  readonly #listener: (target: Target, ejected: boolean) => void
  readonly #records = new Map<Target, Record>()
  readonly #sweeper: NodeJS.Timeout

  /** @param listener called with true to take a target out, with false to readmit it on trial */
  constructor(
    options: OutlierOptions,
    targets: () => readonly Target[],
    listener: (target: Target, ejected: boolean) => void,
  ) {
    this.#options = options
    this.#targets = targets
    this.#listener = listener
    this.#sweeper = setInterval(
      guard('the search for outliers', () => this.#sweep()),
      options.intervalMs,
    ).unref()
  }

  /**
   * @param latencyMs until the response headers, or until the failure
   * @returns true for a failure that the target rather than the request caused: the target is on trial, or its previous
   * response failed too while the others fail clearly less often
   */
  observe(target: Target, failed: boolean, latencyMs: number): boolean {
    const record = this.#record(target)
    record.requests++
    record.latencySum += latencyMs
    if (!failed) {
      record.consecutive = 0
      if (target.onTrial && --record.trial <= 0) {
        target.onTrial = false
        record.ejections = 0
      }
      return false
    }
    record.consecutive++
    record.failures++
    const { consecutive } = this.#options
    const enough = consecutive > 0 && record.consecutive >= consecutive
    const blamed = target.onTrial || ((enough || record.consecutive > 1) && this.#othersFailLess(target))
    if (blamed && (enough || target.onTrial)) this.eject(target)
    return blamed
  }

  /** Ejects a target for a while, unless too many are ejected already. */
  eject(target: Target): void {
    if (target.state !== 'up') return
    const targets = this.#targets()
    const ejected = targets.filter(({ state }) => state === 'ejected').length
    if (ejected + 1 > targets.length * this.#options.maxEjectedShare) return
    const record = this.#record(target)
    const ms = Math.min(this.#options.ejectMs * 2 ** record.ejections++, maxEjectMs)
    clearTimeout(record.timer)
    const admit = guard('the end of an ejection', () => this.#admit(target, record))
    record.timer = setTimeout(admit, ms).unref()
    target.onTrial = false
    this.#listener(target, true)
  }

  /** Forgets everything about a target: its responses, its ejections and its trial. */
  forget(target: Target): void {
    target.onTrial = false
    clearTimeout(this.#records.get(target)?.timer)
    this.#records.delete(target)
  }

  close(): void {
    clearInterval(this.#sweeper)
    for (const target of [...this.#records.keys()]) this.forget(target)
  }

  #admit(target: Target, record: Record): void {
    if (target.state !== 'ejected') return
    record.consecutive = 0
    record.trial = trialRequests
    target.onTrial = true
    this.#listener(target, false)
  }

  /** Whether the others fail at less than half its rate: in this interval, or at its start by their latest responses. */
  #othersFailLess(target: Target): boolean {
    let others = 0
    let failing = 0
    let requests = 0
    let failures = 0
    for (const [other, record] of this.#records) {
      if (other === target || other.state !== 'up') continue
      others++
      if (record.consecutive > 0) failing++
      requests += record.requests
      failures += record.failures
    }
    const own = this.#record(target)
    const share = requests > 0 ? failures / requests : failing / Math.max(1, others)
    return share < own.failures / own.requests / 2
  }

  #sweep(): void {
    const { minRequests, errorShare, latencyFactor, latencyFloorMs } = this.#options
    const measured = [...this.#records].filter(([{ state }, { requests }]) => state === 'up' && requests >= minRequests)
    const means = measured.map(([, { latencySum, requests }]) => latencySum / requests)
    const slow = Math.max(median(means) * latencyFactor, latencyFloorMs)
    measured.forEach(([target, { failures, requests }], i) => {
      const fails = errorShare > 0 && failures / requests >= errorShare && this.#othersFailLess(target)
      const lags = latencyFactor > 0 && measured.length >= 3 && (means[i] as number) > slow
      if (fails || lags) this.eject(target)
    })
    for (const record of this.#records.values()) Object.assign(record, { requests: 0, failures: 0, latencySum: 0 })
  }

  #record(target: Target): Record {
    let record = this.#records.get(target)
    if (!record) {
      record = { consecutive: 0, requests: 0, failures: 0, latencySum: 0, ejections: 0, trial: 0 }
      this.#records.set(target, record)
    }
    return record
  }
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
