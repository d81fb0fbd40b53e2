import { type Channel, channel } from 'node:diagnostics_channel'
import type { LifecycleState } from './identity.ts'

/** The state of an instance has changed. */
export interface StateMessage {
  readonly instance: string
  readonly state: LifecycleState
}

/** A health check has gone down or come up again. */
export interface CheckMessage {
  readonly instance: string
  readonly check: string
  readonly status: 'up' | 'down'
  readonly critical: boolean
  /** Last error of the check; `null` if it never failed. */
  readonly error: string | null
}

/**
 * Diagnostics channels for tracers and error trackers, which need no option and no import of this package:
 * `diagnostics_channel.subscribe('fleet:state', (message) => …)`. Without subscribers they cost nothing. As with every
 * diagnostics channel, an error of a subscriber ends the process.
 */
export const stateChannel: Channel = channel('fleet:state')
export const checkChannel: Channel = channel('fleet:check')
