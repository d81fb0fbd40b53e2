import type { IncomingHttpHeaders } from 'node:http'
import type { Target } from '../target.ts'

/** What a policy knows about the request. */
export interface PickInput {
  /** Address of the client, or another key that identifies it. */
  readonly client: string
  readonly headers: IncomingHttpHeaders
  /** Set by the policy: a `Set-Cookie` value for the response. */
  setCookie?: string
}

/**
 * Chooses one of several targets. A policy sees one list at a time (see `Rotation`). If no target is up, that list contains
 * draining or unhealthy targets, or targets of weight 0. `targets` is never empty and never changes in place: it is a new
 * array whenever a target was added or removed or changed its state or weight. So a policy may cache what it derives from
 * the array for as long as it receives the same one.
 */
export interface Policy {
  pick(targets: readonly Target[], input: PickInput): Target
  /** True when a client should stay with its target: slow start then does not send it elsewhere. */
  readonly affinity?: boolean
  /** Called after a target's `inflight` changed by one; for policies that keep targets ordered by load. */
  loaded?(target: Target): void
  close?(): void
}
