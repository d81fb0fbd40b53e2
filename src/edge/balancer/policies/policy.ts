import type { IncomingHttpHeaders } from 'node:http'
import type { Target } from '../target.ts'

/** What a policy may know of the request it picks for. */
export interface PickInput {
  /** Address of the client, or whatever else stands for it. */
  readonly client: string
  readonly headers: IncomingHttpHeaders
  /** A `Set-Cookie` value that goes to the client with the answer. */
  setCookie?: string
}

/**
 * Chooses one of several targets. A policy never sees a target that is out of rotation. `targets` is never empty, never
 * changes, and is a new array whenever a target came, went, or changed its state or weight: what a policy derives from
 * it may be kept for as long as the same array comes in.
 */
export interface Policy {
  pick(targets: readonly Target[], input: PickInput): Target
  /** True when the same client should meet the same target: slow start then does not send it elsewhere. */
  readonly affinity?: boolean
  /** Called when a target's `inflight` went up or down by one; for policies that keep the targets in order of load. */
  loaded?(target: Target): void
  close?(): void
}
