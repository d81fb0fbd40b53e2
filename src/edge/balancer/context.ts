import { FleetError, type FleetErrorCode } from '../../base/errors.ts'
import type { RetryBudget } from './retry-budget.ts'
import type { RetryOptions } from './retry-rules.ts'
import type { Rotation } from './rotation.ts'
import type { Target } from './target.ts'
import type { WaitingRoom } from './waiting-room.ts'

/** Why an attempt has no response. `refused`: no connection, so nothing was sent; `lost`: no or an incomplete response. */
export type Failure = 'refused' | 'lost'

/** State that all requests of one balancer share, whether they come from the client API or a proxy. */
export interface BalancerContext {
  readonly rotation: Rotation
  readonly waitingRoom: WaitingRoom
  readonly budget: RetryBudget
  readonly retry: RetryOptions
  /** Longest wait for a target, in milliseconds. */
  readonly waitMs: number
  /** Attempts after, and attempts in parallel to, the first one of a request. */
  readonly stats: { retries: number; hedges: number }
  /** Called when a target reports that it drains. */
  draining(target: Target): void
  /** @param status 0 without a response @param startedAt ms @returns true when the attempt failed by the target's fault */
  recordOutcome(target: Target, status: number, failure: Failure | undefined, startedAt: number): boolean
  /** Called once after each `rotation.begin`, after its outcome: a target on trial may get the next request. */
  settle(target: Target): void
  /** Ends what `rotation.begin` started: the target has one request less in flight. */
  release(target: Target): void
}

/** The error of a request without a target: status 503. */
export const unavailable = (code: FleetErrorCode, detail?: string): FleetError =>
  new FleetError(code, detail, { retryAfter: 1 })
