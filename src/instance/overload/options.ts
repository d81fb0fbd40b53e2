import { bool, int, type Shapes } from '../../base/options.ts'

export interface OverloadOptions {
  /**
   * How long a request may wait for its turn while the process is saturated, beyond the time it takes anyway, 1 to
   * 10,000 ms. @default 20
   */
  targetMs?: number
  /**
   * How long the event loop may do without an idle moment before {@link OverloadOptions.targetMs} holds, and how long one
   * turn of it may work off requests until then, 10 to 60,000 ms. @default 500
   */
  burstMs?: number
  /**
   * So many requests are never too many, in one turn and the one before, or at work at a time, 1 to 10,000. A process that
   * shares its cores may be slow with three clients; refusing them would make it no quicker. @default 20
   */
  minRequests?: number
  /**
   * Hold the concurrency limit at all times, and not only while the event loop is saturated: for work whose bottleneck
   * is elsewhere, a pool or another service. It cannot tell a service that is full from one that is slow.
   * @default false
   */
  latency?: boolean
  /** `Retry-After` of a refusal, 1 to 3,600 s. @default 1 */
  retryAfter?: number
}

export const shapes: Shapes = {
  targetMs: int(1, 10_000, 'milliseconds'),
  burstMs: int(10, 60_000, 'milliseconds'),
  minRequests: int(1, 10_000),
  latency: bool,
  retryAfter: int(1, 3_600, 'seconds'),
}
export const defaults = {
  targetMs: 20,
  burstMs: 500,
  minRequests: 20,
  latency: false,
  retryAfter: 1,
} satisfies OverloadOptions
