import { FleetError, type FleetErrorCode } from '../../base/errors.ts'
import type { RetryBudget } from './retry-budget.ts'
import type { RetryOptions } from './retry-rules.ts'
import type { Rotation } from './rotation.ts'
import type { Target } from './target.ts'
import type { WaitingRoom } from './waiting-room.ts'

/** Why an attempt has no answer. `refused`: no connection, so nothing was sent; `lost`: no answer, or not all of it. */
export type Failure = 'refused' | 'lost'

/** What every request of one balancer shares, whichever face it came in by. */
export interface BalancerContext {
  readonly rotation: Rotation
  readonly waitingRoom: WaitingRoom
  readonly budget: RetryBudget
  readonly retry: RetryOptions
  /** Longest wait for a target, in milliseconds. */
  readonly waitMs: number
  /** Attempts after a first one, and attempts beside a first one. */
  readonly stats: { retries: number; hedges: number }
  /** The target said that it leaves. */
  draining(target: Target): void
  /** How an attempt went: true when it failed by the target's fault. @param status 0 without an answer @param startedAt ms */
  recordOutcome(target: Target, status: number, failure: Failure | undefined, startedAt: number): boolean
  /** Gives back the place that `rotation.begin` took. */
  release(target: Target): void
}

/** The error of a request for which there is no target. */
export const unavailable = (code: FleetErrorCode, detail?: string): FleetError =>
  new FleetError(code, detail, { retryAfter: 1 })
