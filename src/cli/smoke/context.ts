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
}

/** Number of responses by instance, most frequent first. */
export function instancesIn(responses: readonly TargetResponse[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { instanceId } of responses) {
    if (instanceId !== undefined) counts.set(instanceId, (counts.get(instanceId) ?? 0) + 1)
  }
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
  const counts = new Map<string, number>()
  for (const { status, error } of responses) {
    const outcome = error ?? String(status)
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
  }
  return [...counts].map(([outcome, count]) => `${count} × ${outcome}`).join(', ')
}

export const succeeded = ({ status }: TargetResponse): boolean => status >= 200 && status < 300

export const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`

/** `api-2` before `api-10`. */
export const byName: (a: string, b: string) => number = new Intl.Collator('en', { numeric: true }).compare
