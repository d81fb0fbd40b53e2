import type { ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { lingerMs, type StallGuard } from '../base/socket-bounds.ts'
import { guard } from './boundary.ts'

/** CONNECT_ERROR, RFC 9113 section 8.5: the tunnelled connection was reset or closed abnormally. */
const connectError = 10

/** Limits of a tunnel. */
export interface TunnelBounds {
  /** Longest time without traffic in either direction, in milliseconds; 0: no limit. */
  readonly idleTimeoutMs: number
  /** Disconnects a side that does not read. */
  readonly stalls: StallGuard
}

/**
 * Forwards bytes between the two sides of a tunnel. When one side closes, the bytes that it has sent are delivered, then both
 * are closed (RFC 9110 section 9.3.6): HTTP servers allow half-open sockets, so the other side would stay open.
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
  // Reads and writes both reset a socket's timer, so the timer of one side covers both directions.
  if (typeof upstream.setTimeout === 'function') upstream.setTimeout(bounds.idleTimeoutMs, () => upstream.destroy())
}

/** Gives the side that is still open a moment to close by itself. */
function closeSoon(...sides: readonly [Duplex, Duplex]): void {
  const close = guard('the end of a tunnel', () => {
    for (const side of sides) side.destroy()
  })
  const timer = setTimeout(close, lingerMs)
  for (const side of sides) side.once('close', () => clearTimeout(timer))
}

/** A connection that broke must not look like one that ended in order. */
function breakOff(side: Duplex): void {
  if ('rstCode' in side) (side as ServerHttp2Stream).close(connectError)
  side.destroy()
}

/**
 * Detects that a client disconnects while its upgrade is pending: without a read, a socket emits no `end`. At most one buffer
 * of early bytes is read, and stays readable.
 *
 * @returns stops watching
 */
export function watchDisconnect(client: Duplex): () => void {
  // With an empty buffer, `readable` announces the end, and read() makes the socket emit it.
  const peek = guard('the early bytes of a tunnel', () => {
    if (client.readableLength === 0) client.read()
  })
  const onEnd = (): void => void client.destroy()
  client.on('readable', peek).once('end', onEnd)
  return () => void client.off('readable', peek).off('end', onEnd)
}
