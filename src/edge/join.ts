import type { ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { lingerMs, type StallGuard } from '../base/socket-bounds.ts'
import { guard } from './boundary.ts'

/** RFC 9113 section 8.5: the connection that a stream stood for was reset or abnormally closed. */
const connectError = 10

/** What the two sides of a tunnel are bound by. */
export interface TunnelBounds {
  /** Nothing moved in either direction, in milliseconds; 0: no limit. */
  readonly idleTimeoutMs: number
  /** Cuts a side that takes nothing of what the other one sends. */
  readonly stalls: StallGuard
}

/**
 * Passes bytes between the two sides of a tunnel. When one side closes, what it has sent before is delivered, and both are
 * closed (RFC 9110 section 9.3.6): HTTP servers allow half-open sockets, and nobody else would close the other side.
 */
export function join(client: Duplex, upstream: Duplex & { setTimeout?: unknown }, bounds: TunnelBounds): void {
  for (const [from, to] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    bounds.stalls.add(from)
    from.on(
      'error',
      guard('the break of a tunnel', () => breakOff(to)),
    )
    const closed = (): void => {
      if (from.readableEnded && !to.writableFinished && !to.destroyed) to.once('finish', () => to.destroy())
      else to.destroy()
    }
    from.once('close', guard('the end of a tunnel', closed))
    // `pipe` ends the other side after the last byte; the stall guard bounds how long that takes.
    const bothSoon = guard('the end of a tunnel', () => closeSoon(from, to))
    const ended = guard('the end of a tunnel', () => {
      if (to.writableFinished) bothSoon()
      else to.once('finish', bothSoon)
    })
    from.once('end', ended)
    from.pipe(to)
  }
  // Reads and writes of a socket both count, so the timer of one side sees both directions.
  if (typeof upstream.setTimeout === 'function') upstream.setTimeout(bounds.idleTimeoutMs, () => upstream.destroy())
}

/** The side that is still open learns of the end at once and gets a moment to close by itself. */
function closeSoon(...sides: readonly [Duplex, Duplex]): void {
  const close = guard('the end of a tunnel', () => {
    for (const side of sides) side.destroy()
  })
  const timer = setTimeout(close, lingerMs)
  for (const side of sides) side.once('close', () => clearTimeout(timer))
}

/** A broken connection must not look like one that ended in order. */
function breakOff(side: Duplex): void {
  if ('rstCode' in side) (side as ServerHttp2Stream).close(connectError)
  side.destroy()
}

/**
 * Notices that a client leaves while its upgrade is on the way: a socket that nobody reads says nothing. At most one buffer of
 * early bytes is read, and kept.
 *
 * @returns ends the watch, with what was read still to be read
 */
export function watchDeparture(client: Duplex): () => void {
  // With an empty buffer this reads the end, which `readable` has announced.
  const look = guard('an early part of a tunnel', () => {
    if (client.readableLength === 0) client.read()
  })
  const left = (): void => void client.destroy()
  client.on('readable', look).once('end', left)
  return () => void client.off('readable', look).off('end', left)
}
