import type { Fit } from './chi-square.ts'

/** `info` has no verdict; `skip` could not be checked, for the reason in its text. */
export type Status = 'pass' | 'fail' | 'skip' | 'info'

/** The result of a check, with a fix when it failed. */
export interface CheckResult {
  readonly check: string
  readonly status: Status
  readonly text: string
  readonly fix?: string
}

/** One instance's share of the sample. */
export interface InstanceShare {
  readonly instanceId: string
  readonly requests: number
  /** The expected number of requests by its weight. */
  readonly expected: number
  /** Response times measured by this client, ms. */
  readonly p50: number
  readonly p95: number
}

export interface Distribution {
  readonly requests: number
  readonly failed: number
  /** 95th percentile of all response times, ms. */
  readonly p95: number
  readonly shares: readonly InstanceShare[]
  readonly fit?: Fit
}

/** Requests by time while an instance was drained or killed. */
export interface Timeline {
  readonly check: 'failover' | 'kill'
  /** Length of an interval, ms. */
  readonly bucketMs: number
  /** Successful requests of each instance, by interval. */
  readonly instances: readonly { readonly instanceId: string; readonly requests: readonly number[] }[]
  /** Failed requests, by interval. */
  readonly failed: readonly number[]
  readonly events: readonly { readonly atMs: number; readonly text: string }[]
}

export interface Report {
  readonly url: string
  /** ISO 8601. */
  readonly startedAt: string
  readonly durationMs: number
  readonly verdict: 'pass' | 'fail'
  /** The expected number of instances, if known. */
  readonly expectedInstances?: number
  readonly findings: readonly CheckResult[]
  readonly distribution?: Distribution
  readonly timelines?: readonly Timeline[]
}

/** Adds the results of one check to a list. */
export interface CheckResults {
  pass(text: string): void
  fail(text: string, fix?: string): void
  skip(text: string, fix?: string): void
  info(text: string): void
}

export function resultsOf(check: string, list: CheckResult[]): CheckResults {
  const add = (status: Status) => (text: string, fix?: string) => void list.push({ check, status, text, fix })
  return { pass: add('pass'), fail: add('fail'), skip: add('skip'), info: add('info') }
}
