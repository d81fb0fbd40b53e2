import type { ServerHttp2Stream } from 'node:http2'
import type { Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'

const ignore = (): void => {}

const keepListener = (socket: Socket): void => void socket.on('error', ignore)

/**
 * Keeps an `error` listener on every connection of a server. Node removes its own before it emits `connect` and
 * `upgrade`, and an error without a listener ends the process. Node destroys a failed connection itself, so the listener
 * does nothing. A listening server gets one too, for connections that cannot be accepted for lack of descriptors.
 */
export function guardConnections(server: Server): void {
  server.once('listening', () => server.on('error', ignore))
  server.on('setSecureContext' in server ? 'secureConnection' : 'connection', keepListener)
}

/** Time that a connection may stay half-open after its last byte was sent, in milliseconds. */
export const lingerMs = 1000

/**
 * Ends a connection after `last`. It closes when the other side closes, or after `waitMs` milliseconds. Incoming data is
 * read and discarded, because closing a socket with unread data resets it, and the other side could lose the response
 * (RFC 9112 section 9.6).
 */
export function endConnection(socket: Duplex, last?: string, waitMs: number = lingerMs): void {
  if (socket.destroyed) return
  const timer = setTimeout(() => socket.destroy(), waitMs)
  socket.once('close', () => clearTimeout(timer))
  // An error without a listener would end the process.
  socket.on('error', ignore)
  if (last === undefined) socket.end()
  else socket.end(last, 'latin1')
  socket.resume()
}

/**
 * Resets a connection. Node never closes the descriptor of a socket that is reset during its shutdown (libuv responds
 * EINVAL), so such a socket is closed instead; it has no data left to discard.
 */
export function resetConnection(socket: Socket): void {
  const isShuttingDown = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0
  if (isShuttingDown) socket.destroy()
  else socket.resetAndDestroy()
}

/**
 * Connections that have their response and wait for the other side to close. Above `max` the oldest is destroyed, so that a
 * client cannot block others by opening many.
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

/** Interval at which timeouts of these lengths are checked, in milliseconds. */
export const sweepMs = (...timeouts: readonly number[]): number =>
  Math.max(25, Math.min(1000, ...timeouts.filter((ms) => ms > 0).map((ms) => ms / 4)))

interface Progress {
  /** Grows with the bytes sent; only compared, never shown. */
  sent: number
  since: number
}

/**
 * Cuts connections and HTTP/2 streams whose peer has not received any data for too long. One periodic check covers all of
 * them, instead of a timer per write.
 */
export class StallGuard {
  readonly #timeoutMs: number
  readonly #watched = new Set<Duplex>()
  readonly #stalled = new Map<Duplex, Progress>()
  readonly #onClose: (this: Duplex) => void
  #timer: NodeJS.Timeout | undefined

  /** @param timeoutMs 0: no limit */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
    const forget = (stream: Duplex): void => this.#forget(stream)
    this.#onClose = function onClose(this: Duplex) {
      forget(this)
    }
  }

  add(stream: Duplex): void {
    if (this.#timeoutMs === 0 || stream.destroyed || this.#watched.has(stream)) return
    this.#watched.add(stream)
    // One listener for all, because there may be ten thousand streams.
    stream.on('close', this.#onClose)
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
        // A stream may have been drained and filled again between two checks.
        if (stream.writableNeedDrain) stream.once('drain', () => this.#stalled.delete(stream))
      } else if (sent > seen.sent) Object.assign(seen, { sent, since: now })
      else if (now - seen.since >= this.#timeoutMs) cut(stream)
    }
  }
}

/** Sockets count the bytes they have sent; HTTP/2 streams only know how many are left. */
function sentBy(stream: Duplex & { bytesWritten?: number }): number {
  return (stream.bytesWritten ?? 0) - stream.writableLength
}

const cancelled = 8

function cut(stream: Duplex): void {
  // RST_STREAM with an error, because a cut response must not look complete.
  if ('rstCode' in stream) (stream as ServerHttp2Stream).close(cancelled)
  // A regular close would keep unsent data in the kernel for minutes. Only TCP can be reset.
  const { encrypted, remotePort } = stream as Partial<TLSSocket>
  if (!encrypted && remotePort !== undefined && !stream.destroyed) resetConnection(stream as Socket)
  stream.destroy()
}
