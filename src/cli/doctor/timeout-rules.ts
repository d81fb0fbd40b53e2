import { serverOptions } from '../../instance/server-options.ts'

/** Defaults of an instance in production, ms. A test compares them with the plugins. */
export const instanceDefaults: Readonly<Record<'keepAliveMs' | 'drainMs' | 'shutdownMs', number>> = {
  keepAliveMs: serverOptions().keepAliveTimeout ?? 72_000,
  drainMs: 5_000,
  shutdownMs: 30_000,
}

/** Time for the end of a shutdown: idle sockets, `onClose` hooks and the exit. */
const exitMs = 2_000

/** The terms of the inequalities, all in ms; docs/timeouts.md explains them and lists the settings that they come from. */
export type Term =
  | 'idle'
  | 'keepAlive'
  | 'notice'
  | 'avoid'
  | 'drain'
  | 'preStop'
  | 'longest'
  | 'shutdown'
  | 'grace'
  | 'deregister'

export type TimeoutCode =
  | 'DOCTOR_KEEPALIVE'
  | 'DOCTOR_NOTICE'
  | 'DOCTOR_AVOID'
  | 'DOCTOR_SHUTDOWN'
  | 'DOCTOR_GRACE'
  | 'DOCTOR_DEREGISTER'

export interface TimeoutRule {
  readonly code: TimeoutCode
  /** The sum on the left must be below the sum on the right, or not above it. */
  readonly less: readonly Term[]
  readonly relation: '<' | '≤'
  readonly more: readonly Term[]
  /** Added to the left side, ms. @default 0 */
  readonly slackMs?: number
  readonly why: string
  readonly fix: string
}

/** The timeouts of one shutdown; each must fit the next. */
export const timeoutRules: readonly TimeoutRule[] = [
  {
    code: 'DOCTOR_KEEPALIVE',
    less: ['idle'],
    relation: '<',
    more: ['keepAlive'],
    why: 'otherwise the front sends on a connection that the instance is closing: a 502 or a lost POST',
    fix: 'lower the front’s idle timeout, or raise `keepAliveTimeout` in Fastify’s options',
  },
  {
    code: 'DOCTOR_NOTICE',
    less: ['notice'],
    relation: '≤',
    more: ['preStop', 'drain'],
    why: 'otherwise the listener closes while the front still opens connections, which fail',
    fix: 'lower the check interval or the failure threshold, or raise DRAIN_DELAY',
  },
  {
    code: 'DOCTOR_AVOID',
    less: ['drain'],
    relation: '<',
    more: ['avoid'],
    why: 'otherwise nginx retries a draining instance when its listener has just closed',
    fix: 'set `fail_timeout` above DRAIN_DELAY',
  },
  {
    code: 'DOCTOR_SHUTDOWN',
    less: ['drain', 'longest'],
    relation: '≤',
    more: ['shutdown'],
    why: 'otherwise the deadline cuts requests that would have finished',
    fix: 'raise SHUTDOWN_TIMEOUT or lower DRAIN_DELAY',
  },
  {
    code: 'DOCTOR_GRACE',
    less: ['preStop', 'shutdown'],
    relation: '≤',
    more: ['grace'],
    slackMs: exitMs,
    why: 'otherwise the process is killed while it still serves requests',
    fix: 'raise the grace period or lower SHUTDOWN_TIMEOUT',
  },
  {
    code: 'DOCTOR_DEREGISTER',
    less: ['shutdown'],
    relation: '≤',
    more: ['deregister'],
    why: 'otherwise the load balancer cuts connections while the instance still responds',
    fix: 'raise `deregistration_delay`',
  },
]
