import type { Peer } from '../../instance/identity.ts'
import type { Target, TargetResponse } from '../target.ts'

/** What every check may ask and know. */
export interface CheckContext {
  readonly front: Target
  /** Direct addresses of instances, as far as they were given. */
  readonly direct: readonly Target[]
  /** How many instances should response; undefined when nobody told. */
  readonly expected?: number
  /** The instances in rotation, when operators' endpoints could be asked. */
  readonly peers?: readonly Peer[]
  /** Answers to many separate clients; every check may look at them. */
  readonly sample: readonly TargetResponse[]
  /** The path the sample was taken from. */
  readonly path: string
}

/** Ids that answered, most frequent first. */
export function instancesIn(responses: readonly TargetResponse[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { instanceId } of responses) {
    if (instanceId !== undefined) counts.set(instanceId, (counts.get(instanceId) ?? 0) + 1)
  }
  return new Map([...counts].sort((a, b) => b[1] - a[1]))
}

/** How many instances must be seen: what is expected, else what the sample saw. */
export const wanted = (context: CheckContext): number =>
  Math.max(1, context.expected ?? instancesIn(context.sample).size)

/**
 * Enough separate requests to meet each of `instances` even when a front picks at random: a given one is missed with
 * probability (1 − 1/n)^(12 n) < e⁻¹².
 */
export const rounds = (instances: number): number => Math.max(24, 12 * instances)

/** Answers by outcome, e.g. `2 × 502, 1 × ECONNRESET`. */
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
