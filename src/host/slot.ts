import type { Backoff } from './backoff.ts'
import type { Member } from './member.ts'

/** Why a worker was replaced. */
export type Reason = 'crash' | 'stuck' | 'memory' | 'reload'

/** One slot of the group: a worker and, after its end, its successor. */
export interface Slot {
  readonly number: number
  readonly backoff: Backoff
  member?: Member
  /** A replacement that is not ready yet. */
  next?: Member
  /** Fires when a worker that ended is to be restarted. */
  timer?: NodeJS.Timeout
  /** State after exceeding the memory limit: waiting for a replacement, or exempt until this time. */
  overLimit?: 'waiting' | { until: number }
}
