import type { ServerHttp2Stream } from 'node:http2'
import type { Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'

const ignore = (): void => {}

const keepListener = (socket: Socket): void => void socket.on('error', ignore)

/**
 * Keeps an `error` listener on every connection of a server for as long as it is open. Node removes its own listener
 * before it emits `connect` and `upgrade`, and an error without a listener ends the process. A connection that fails is
 * destroyed by Node itself, so the listener has nothing to do. The same for the server once it listens: a connection that
 * cannot be accepted, because descriptors are used up, is an error there.
 */
export function guardConnections(server: Server): void {
  server.once('listening', () => server.on('error', ignore))
  server.on('setSecureContext' in server ? 'secureConnection' : 'connection', keepListener)
}

/** How long a connection that has sent its last byte may stay half-open before it is destroyed, in milliseconds. */
export const lingerMs = 1000

/**
 * Ends a connection after `last` and closes it: when the other side closes too, or after `waitMs` milliseconds. What still
 * comes in is read and discarded, because closing a socket with unread data resets it, and the other side could lose
 * the response (RFC 9112 section 9.6).
 */
export function endConnection(socket: Duplex, last?: string, waitMs: number = lingerMs): void {
  if (socket.destroyed) return
  const timer = setTimeout(() => socket.destroy(), waitMs)
  socket.once('close', () => clearTimeout(timer))
  // Without a listener a failed connection would end the process; see above.
  socket.on('error', ignore)
  if (last === undefined) socket.end()
  else socket.end(last, 'latin1')
  socket.resume()
}

/**
 * Connections that are served at once and only wait for the other side to close: above `max` the oldest is destroyed, so that
 * nobody can keep others out by opening many.
 */
export class RecentConnections {
  readonly #max: number
  readonly #open = new Set<Socket>()

  constructor(max: number) {
    this.#max = max
  }

  add(socket: Socket): void {
    this.#open.add(socket)
    socket.once('close', () => this.#open.delete(socket))
    const [oldest] = this.#open
    if (this.#open.size > this.#max) oldest?.destroy()
  }

  destroy(): void {
    for (const socket of this.#open) socket.destroy()
  }
}

/** How often something with this timeout is looked at, in milliseconds. */
export const sweepMs = (...timeouts: readonly number[]): number =>
  Math.max(25, Math.min(1000, ...timeouts.filter((ms) => ms > 0).map((ms) => ms / 4)))

interface Progress {
  /** The more, the more has been sent; only ever compared. */
  sent: number
  since: number
}

/**
 * Cuts connections and HTTP/2 streams whose peer takes nothing of what is to be sent for too long. It looks at all of them
 * once in a while instead of arming a timer for each write.
 */
export class StallGuard {
  readonly #timeoutMs: number
  readonly #watched = new Set<Duplex>()
  readonly #stalled = new Map<Duplex, Progress>()
  readonly #gone: (this: Duplex) => void
  #timer: NodeJS.Timeout | undefined

  /** @param timeoutMs 0: no limit */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
    const forget = (stream: Duplex): void => this.#forget(stream)
    this.#gone = function gone(this: Duplex) {
      forget(this)
    }
  }

  add(stream: Duplex): void {
    if (this.#timeoutMs === 0 || stream.destroyed || this.#watched.has(stream)) return
    this.#watched.add(stream)
    // One function for all: there may be ten thousand of them.
    stream.on('close', this.#gone)
    this.#timer ??= setInterval(() => this.#sweep(), sweepMs(this.#timeoutMs)).unref()
  }

  #forget(stream: Duplex): void {
    this.#watched.delete(stream)
    this.#stalled.delete(stream)
    if (this.#watched.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #sweep(): void {
    const now = performance.now()
    for (const stream of this.#watched) {
      if (stream.writableLength === 0 && (!stream.writableEnded || stream.writableFinished)) {
        this.#stalled.delete(stream)
        continue
      }
      const sent = sentBy(stream)
      const seen = this.#stalled.get(stream)
      if (!seen) {
        this.#stalled.set(stream, { sent, since: now })
        // A stream may have been emptied and filled again between two looks.
        if (stream.writableNeedDrain) stream.once('drain', () => this.#stalled.delete(stream))
      } else if (sent > seen.sent) Object.assign(seen, { sent, since: now })
      else if (now - seen.since >= this.#timeoutMs) cut(stream)
    }
  }
}

/** A socket counts what it has sent; of an HTTP/2 stream only what is left is known. */
function sentBy(stream: Duplex & { bytesWritten?: number }): number {
  return (stream.bytesWritten ?? 0) - stream.writableLength
}

const cancelled = 8

function cut(stream: Duplex): void {
  // A response that is cut must not look complete: RST_STREAM with an error.
  if ('rstCode' in stream) (stream as ServerHttp2Stream).close(cancelled)
  // Closed in order, a connection would keep what it has still to send in the kernel for minutes. Only TCP can be reset.
  const { encrypted, remotePort } = stream as Partial<TLSSocket>
  if (!encrypted && remotePort !== undefined && !stream.destroyed) (stream as Socket).resetAndDestroy()
  stream.destroy()
}
