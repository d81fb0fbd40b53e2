import { type Channel, channel } from 'node:diagnostics_channel'
import type { LifecycleState } from './identity.ts'

/** An instance has moved on in its life. */
export interface StateMessage {
  readonly instance: string
  readonly state: LifecycleState
}

/** A health check has gone down, or come back. */
export interface CheckMessage {
  readonly instance: string
  readonly check: string
  readonly status: 'up' | 'down'
  readonly critical: boolean
  /** Why it went down; `null` when it came back without ever having failed. */
  readonly error: string | null
}

/**
 * What a tracer or an error tracker wants to hear of, without an option and without an import of this package:
 * `diagnostics_channel.subscribe('fleet:state', (message) => …)`. Nobody subscribed costs nothing. A subscriber that throws
 * ends the process, as Node has it.
 */
export const stateChannel: Channel = channel('fleet:state')
export const checkChannel: Channel = channel('fleet:check')
