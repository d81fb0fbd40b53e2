import { performance } from 'node:perf_hooks'
import { type Duplex, Stream } from 'node:stream'

/**
 * The error boundary of each connection. An exception in a callback of a socket, a parser or a timer would end the process.
 * So every callback in this folder is registered through {@link guard}, or catches and calls {@link caught}: the exception
 * is counted and logged, and ends only its own connection or response.
 */

const logEveryMs = 10_000
let count = 0
let suppressed = 0
let loggedAt = Number.NEGATIVE_INFINITY

/** Exceptions caught since the process started. */
export const internalErrors = (): number => count

/**
 * Wraps a callback so that it never throws.
 *
 * @param where the step, for the log; a constant
 * @param fail ends the connection or response that the exception belongs to; receives the callback's arguments as well
 */
export function guard<A extends unknown[]>(
  where: string,
  callback: (...args: A) => void,
  fail?: (error: Error, ...args: A) => void,
): (...args: A) => void {
  return (...args) => {
    try {
      callback(...args)
    } catch (error) {
      caught(where, error, (reason) => fail?.(reason, ...args))
    }
  }
}

/** A `fail` for {@link guard}: destroys the streams among the callback's arguments. */
export function destroyStreams(_: Error, ...args: readonly unknown[]): void {
  for (const each of args) if (each instanceof Stream) (each as Duplex).destroy()
}

/** Counts and logs an exception, then calls `fail`. Never throws. */
export function caught(where: string, thrown: unknown, fail?: (error: Error) => void): void {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  record(where, error)
  try {
    fail?.(error)
  } catch (again) {
    record(where, again instanceof Error ? again : new Error(String(again)))
  }
}

/** Logs at most one line per interval, as a process warning that applications can filter by `code`. */
function record(where: string, error: Error): void {
  count++
  const now = performance.now()
  if (now - loggedAt < logEveryMs) {
    suppressed++
    return
  }
  loggedAt = now
  const frame = /^\s+at (.+)$/m.exec(error.stack ?? '')?.[1] ?? 'unknown place'
  const others = suppressed > 0 ? `; ${suppressed} more since the last line` : ''
  suppressed = 0
  const message = JSON.stringify(`${error.name}: ${error.message}`.slice(0, 300))
  process.emitWarning(`internal error in ${where}: ${message} at ${frame}${others}`, {
    type: 'FleetWarning',
    code: 'FLEET_WARN_PROXY_INTERNAL',
  })
}
