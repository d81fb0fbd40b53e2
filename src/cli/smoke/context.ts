import type { Peer } from '../../instance/identity.ts'
import type { Target, TargetResponse } from '../target.ts'

/** Targets and data that the checks share. */
export interface CheckContext {
  readonly front: Target
  /** The given direct addresses of instances. */
  readonly direct: readonly Target[]
  /** The expected number of instances, if known. */
  readonly expected?: number
  /** The instances in rotation, if operators' paths are available. */
  readonly peers?: readonly Peer[]
  /** Responses over many separate connections. */
  readonly sample: readonly TargetResponse[]
  /** The path of the sample. */
  readonly path: string
  /** The largest 95th percentile of the sample's response times that passes, ms; any without it. */
  readonly maxP95?: number
  /** The largest share of failed requests that passes, 0 to 1. @default 0 */
  readonly maxErrorRate?: number
}

/** Whether so many failures pass. */
export const tolerates = ({ maxErrorRate = 0 }: CheckContext, failed: number, total: number): boolean =>
  failed <= total * maxErrorRate

export const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)

export const percentOf = (part: number, total: number): string => `${Number(((100 * part) / total).toFixed(2))} %`

/** Number of responses by instance, most frequent first. */
export function instancesIn(responses: readonly TargetResponse[]): Map<string, number> {
  const counts = countBy(responses.flatMap(({ instanceId }) => instanceId ?? []))
  return new Map([...counts].sort((a, b) => b[1] - a[1]))
}

/** The number of instances to reach: the expected number, else that of the sample. */
export const wanted = (context: CheckContext): number =>
  Math.max(1, context.expected ?? instancesIn(context.sample).size)

/**
 * Enough separate requests to reach each of `instances` even when a front picks at random: the probability of missing one is (1 − 1/n)^(12 n) < e⁻¹².
 */
export const rounds = (instances: number): number => Math.max(24, 12 * instances)

/** Responses by outcome, e.g. `2 × 502, 1 × ECONNRESET`. */
export function outcomes(responses: readonly TargetResponse[]): string {
  const counts = countBy(responses.map(({ status, error }) => error ?? String(status)))
  return [...counts].map(([outcome, count]) => `${count} × ${outcome}`).join(', ')
}

/** How often each value occurs, in the order of first occurrence. */
export const countBy = (values: readonly string[]): Map<string, number> =>
  new Map([...Map.groupBy(values, (value) => value)].map(([value, all]) => [value, all.length]))

export const succeeded = ({ status }: TargetResponse): boolean => status >= 200 && status < 300

/** `api-2` before `api-10`. */
export const byName: (a: string, b: string) => number = new Intl.Collator('en', { numeric: true }).compare
