import { performance } from 'node:perf_hooks'
import { type Duplex, Stream } from 'node:stream'

/**
 * The boundary around each connection. An exception in a callback of a socket, a parser or a timer would end the process.
 * Every callback in this folder is therefore registered through {@link guard}, or catches and calls {@link caught}: the
 * exception is counted, logged, and ends only the connection or the response that it belongs to.
 */

const logEveryMs = 10_000
let count = 0
let unlogged = 0
let loggedAt = Number.NEGATIVE_INFINITY

/** Exceptions that were caught since the process started. */
export const internalErrors = (): number => count

/**
 * A callback that never throws.
 *
 * @param where what is being done; a constant, because it is logged
 * @param fail ends what the exception belongs to; it gets the callback's arguments as well
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

/** For {@link guard}: ends the connections that are among the arguments of a callback. */
export function destroyStreams(_: Error, ...args: readonly unknown[]): void {
  for (const each of args) if (each instanceof Stream) (each as Duplex).destroy()
}

/** Counts and logs an exception, and then ends what it belongs to. Never throws. */
export function caught(where: string, thrown: unknown, fail?: (error: Error) => void): void {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  record(where, error)
  try {
    fail?.(error)
  } catch (again) {
    record(where, again instanceof Error ? again : new Error(String(again)))
  }
}

/** One line per interval however many there are, as a process warning: applications can route it by `code`. */
function record(where: string, error: Error): void {
  count++
  const now = performance.now()
  if (now - loggedAt < logEveryMs) {
    unlogged++
    return
  }
  loggedAt = now
  const frame = /^\s+at (.+)$/m.exec(error.stack ?? '')?.[1] ?? 'unknown place'
  const others = unlogged > 0 ? `; ${unlogged} more since the last line` : ''
  unlogged = 0
  const message = JSON.stringify(`${error.name}: ${error.message}`.slice(0, 300))
  process.emitWarning(`internal error in ${where}: ${message} at ${frame}${others}`, {
    type: 'FleetWarning',
    code: 'FLEET_WARN_PROXY_INTERNAL',
  })
}
