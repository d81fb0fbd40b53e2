/** What one side of a canary has done since the comparison began. */
export interface SideStats {
  readonly requests: number
  /** Answers with 5xx. */
  readonly errors: number
  /** Milliseconds; the median of what was sampled. */
  readonly p95: number
}

/** When a canary is worse. */
export interface Limits {
  /** By how much its share of 5xx may be above that of the stable side, 0 to 1. */
  readonly errorMargin: number
  /** How many times the p95 of the stable side it may have; differences below 10 ms are noise. */
  readonly p95Factor: number
  /** Fewer requests of the canary than this say nothing. */
  readonly minRequests: number
}

const noticeableMs = 10

/**
 * Why the canary is worse, or `undefined`. A canary that got too little to be judged is worse only at the `end`: nobody
 * knows what it does.
 */
export function whyWorse(canary: SideStats, stable: SideStats, limits: Limits, end: boolean): string | undefined {
  if (canary.requests < limits.minRequests) {
    return end ? `it got ${canary.requests} requests; ${limits.minRequests} are needed to judge it` : undefined
  }
  const rate = ({ requests, errors }: SideStats): number => (requests === 0 ? 0 : errors / requests)
  const [its, theirs] = [rate(canary), rate(stable)]
  if (its > theirs + limits.errorMargin) {
    return `${percent(its)} of its answers are 5xx, ${percent(theirs)} of the stable side's`
  }
  // Of latency a few seconds say little: the first ones are those of cold caches.
  if (end && canary.p95 > stable.p95 * limits.p95Factor && canary.p95 - stable.p95 > noticeableMs) {
    return `its p95 is ${canary.p95} ms, the stable side's ${stable.p95} ms`
  }
  return undefined
}

const percent = (share: number): string => `${Math.round(share * 1000) / 10} %`

/** What an instance says of itself, of all requests since it started. */
export interface Sample {
  readonly requests: number
  readonly errors: number
  /** Of the last 10 s, in milliseconds. */
  readonly p95: number
}

/** Adds up what several instances did between the first and the last of their samples. */
export function summarise(instances: readonly (readonly Sample[])[]): SideStats {
  const done = (key: 'requests' | 'errors'): number =>
    instances.reduce((sum, samples) => sum + ((samples.at(-1)?.[key] ?? 0) - (samples[0]?.[key] ?? 0)), 0)
  // The first sample's p95 is of the time before.
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
