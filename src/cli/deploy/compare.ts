/** Results of one side since the comparison began. */
export interface SideStats {
  readonly requests: number
  /** Responses with 5xx. */
  readonly errors: number
  /** Median of the samples, ms. */
  readonly p95: number
}

/** When a canary counts as worse. */
export interface Limits {
  /** How much its share of 5xx may exceed that of the stable side, 0 to 1. */
  readonly errorMargin: number
  /** Maximum ratio of its p95 to that of the stable side; differences below 10 ms are noise. */
  readonly p95Factor: number
  /** Minimum number of its requests for a comparison. */
  readonly minRequests: number
}

const noticeableMs = 10

/**
 * Why the canary is worse, or `undefined`. Too few requests fail the canary only at the `end`.
 */
export function whyWorse(canary: SideStats, stable: SideStats, limits: Limits, end: boolean): string | undefined {
  if (canary.requests < limits.minRequests) {
    return end ? `it received ${canary.requests} requests; a comparison needs ${limits.minRequests}` : undefined
  }
  const rate = ({ requests, errors }: SideStats): number => (requests === 0 ? 0 : errors / requests)
  const [its, theirs] = [rate(canary), rate(stable)]
  if (its > theirs + limits.errorMargin) {
    return `${percent(its)} of its responses are 5xx, ${percent(theirs)} of the stable side's`
  }
  // Latency is compared at the end only: the first seconds measure cold caches.
  if (end && canary.p95 > stable.p95 * limits.p95Factor && canary.p95 - stable.p95 > noticeableMs) {
    return `its p95 is ${canary.p95} ms, the stable side's ${stable.p95} ms`
  }
  return undefined
}

const percent = (share: number): string => `${Math.round(share * 1000) / 10} %`

/** Counters of an instance since it started. */
export interface Sample {
  readonly requests: number
  readonly errors: number
  /** Of the last 10 s, ms. */
  readonly p95: number
}

/** Sums up several instances between their first and last samples. */
export function summarise(instances: readonly (readonly Sample[])[]): SideStats {
  const done = (key: 'requests' | 'errors'): number =>
    instances.reduce((sum, samples) => sum + ((samples.at(-1)?.[key] ?? 0) - (samples[0]?.[key] ?? 0)), 0)
  // The p95 of the first sample is from before the comparison.
  return {
    requests: done('requests'),
    errors: done('errors'),
    p95: median(instances.flatMap((samples) => samples.slice(1).map(({ p95 }) => p95))),
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}
