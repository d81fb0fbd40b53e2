import type { Http2SecureServer, Http2Server, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { StallGuard, sweepMs } from './socket-bounds.ts'

/** Bounds of an HTTP/2 server, in milliseconds and bytes; 0: no limit. */
export interface Http2Bounds {
  /** From the connection to the first request. */
  readonly headersTimeoutMs: number
  /** Without a request. */
  readonly idleTimeoutMs: number
  /** From a request's headers to the end of its body. */
  readonly requestTimeoutMs: number
  /** Without progress in sending a response. */
  readonly sendTimeoutMs: number
  /** Largest header block of a request. */
  readonly maxHeaderBytes: number
  /** Requests after which a session gets GOAWAY. */
  readonly maxRequests: number
  /** As in the settings of the server. A client may cancel twice as many at once, and {@link resetsPerSecond} after that. */
  readonly maxConcurrentStreams: number
}

interface Session {
  readonly http2: ServerHttp2Session
  readonly socket: Socket
  /** The same without TLS; unknown when it was gone before its session began. */
  readonly raw: Socket | undefined
  readonly streams: Set<ServerHttp2Stream>
  /** Requests of which not everything has come, and when they began. */
  readonly uploads: Map<ServerHttp2Stream, number>
  /** Tunnels of extended CONNECT: their bytes are no control frames. */
  tunnels: number
  requests: number
  /** Requests that were reset lately. */
  resets: number
  idleSince: number
  closing: boolean
  sweptAt: number
  sweptRequests: number
  bytesRead: number
  bytesWritten: number
  /** When something came last, and the PING that asked for more. */
  heardAt: number
  pingedAt: number | undefined
}

/** A client that says nothing for this long while it waits is asked by PING whether it is there, and has as long to answer. */
const maxQuietMs = 30_000
/**
 * Requests that a client may reset. Each of them may have begun work, which goes on: a client that resets many is not bound
 * by the number of its open streams (CVE-2023-44487). Node's own limit is 1,000 at once.
 */
const resetsPerSecond = 33
/** Bytes that a session may send beside its requests, per second: PING, SETTINGS, PRIORITY, empty frames, RST_STREAM. */
const controlBytesPerSecond = 256 * 1024
/** Clients return the flow-control window with about one byte for so many they got, or more. */
const bytesPerWindowByte = 64
/** RFC 9113 section 7. */
const noError = 0
const cancel = 8
const enhanceYourCalm = 11

/**
 * The sessions of an HTTP/2 server, and the bounds that Node has for HTTP/1.1 only. Everything is looked at once in a while
 * instead of by a timer for each stream.
 */
export class Http2Sessions {
  readonly #bounds: Http2Bounds
  readonly #sessions = new Map<ServerHttp2Session, Session>()
  readonly #stalls: StallGuard
  /** Connections below TLS by their peer; only they can be reset. */
  readonly #raw = new Map<string, Socket>()
  #socket: Socket | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(bounds: Http2Bounds) {
    this.#bounds = bounds
    this.#stalls = new StallGuard(bounds.sendTimeoutMs)
  }

  /** Follows a server, from before its first connection. */
  watch(server: Http2SecureServer | Http2Server): void {
    server.prependListener('connection', (socket: Socket) => {
      this.#socket = socket
      // Already closed, or a Unix socket, which cannot be reset.
      if (socket.remotePort === undefined) return
      const peer = peerOf(socket)
      this.#raw.set(peer, socket)
      socket.once('close', () => {
        if (this.#raw.get(peer) === socket) this.#raw.delete(peer)
      })
    })
    // A session never gives its socket away, so it is remembered from right before the session is made.
    server.prependListener('secureConnection', (socket: Socket) => {
      this.#socket = socket
    })
    server.on('session', (session: ServerHttp2Session) => {
      const socket = this.#socket
      if (socket) this.#add(session, socket, this.#raw.get(peerOf(socket)))
    })
  }

  get size(): number {
    return this.#sessions.size
  }

  /** GOAWAY for all: running streams end, new ones go elsewhere (RFC 9113 section 6.8). */
  close(): void {
    for (const { http2 } of this.#sessions.values()) http2.close()
  }

  destroy(): void {
    for (const { http2, socket } of this.#sessions.values()) {
      http2.destroy()
      socket.destroy()
    }
  }

  #add(http2: ServerHttp2Session, socket: Socket, raw: Socket | undefined): void {
    const now = performance.now()
    const session: Session = {
      http2,
      socket,
      raw,
      streams: new Set(),
      uploads: new Map(),
      tunnels: 0,
      requests: 0,
      resets: 0,
      idleSince: now,
      closing: false,
      sweptAt: now,
      sweptRequests: 0,
      bytesRead: 0,
      bytesWritten: 0,
      heardAt: now,
      pingedAt: undefined,
    }
    this.#sessions.set(http2, session)
    const maxResets = 2 * this.#bounds.maxConcurrentStreams
    // One function for all streams of a session.
    const gone = function gone(this: ServerHttp2Stream): void {
      session.streams.delete(this)
      session.uploads.delete(this)
      if (this.rstCode !== noError && ++session.resets >= maxResets && !http2.destroyed) {
        http2.destroy()
        // Not while its socket is being read.
        setImmediate(end, session, enhanceYourCalm)
      }
      if (session.streams.size === 0) session.idleSince = performance.now()
    }
    http2.on('stream', (stream: ServerHttp2Stream, headers) => this.#begin(session, stream, headers[':method'], gone))
    http2.once('close', () => {
      this.#sessions.delete(http2)
      if (this.#sessions.size > 0) return
      clearInterval(this.#timer)
      this.#timer = undefined
    })
    const { headersTimeoutMs, idleTimeoutMs, requestTimeoutMs } = this.#bounds
    this.#timer ??= setInterval(() => this.#sweep(), sweepMs(headersTimeoutMs, idleTimeoutMs, requestTimeoutMs)).unref()
  }

  #begin(session: Session, stream: ServerHttp2Stream, method: string | undefined, gone: () => void): void {
    session.requests++
    const { maxRequests } = this.#bounds
    if (maxRequests > 0 && session.requests === maxRequests) session.http2.close()
    if (stream.destroyed) return
    session.streams.add(stream)
    if (method === 'CONNECT') {
      session.tunnels++
      stream.once('close', () => session.tunnels--)
    } else if (!stream.endAfterHeaders) session.uploads.set(stream, performance.now())
    stream.on('close', gone)
    this.#stalls.add(stream)
  }

  #sweep(): void {
    const now = performance.now()
    for (const session of this.#sessions.values()) {
      if (session.closing) end(session, noError)
      else if (this.#isFlooding(session, now)) end(session, enhanceYourCalm)
      else if (session.streams.size > 0) {
        this.#cutLateUploads(session, now)
        this.#checkPresence(session, now)
      }
      // It got GOAWAY and has ended; a client that does not close its side is cut at the next look.
      else if (session.http2.closed) session.closing = true
      else this.#closeIdle(session, now)
    }
  }

  #closeIdle(session: Session, now: number): void {
    const { headersTimeoutMs, idleTimeoutMs } = this.#bounds
    const limit = session.requests === 0 ? headersTimeoutMs : idleTimeoutMs
    if (limit === 0 || now - session.idleSince < limit) return
    // Without a request there is nobody to take leave of.
    if (session.requests === 0) {
      end(session, noError)
      return
    }
    session.http2.close()
    session.closing = true
  }

  #cutLateUploads({ uploads }: Session, now: number): void {
    const { requestTimeoutMs } = this.#bounds
    for (const [stream, since] of uploads) {
      if (stream.readableEnded) uploads.delete(stream)
      else if (requestTimeoutMs > 0 && now - since >= requestTimeoutMs) {
        stream.close(cancel)
        stream.destroy()
      }
    }
  }

  /**
   * Node does not read while it writes, and may then never hear that a connection has been reset: its streams would stay for
   * as long as their responses take.
   */
  #checkPresence(session: Session, now: number): void {
    const quietMs = Math.min(maxQuietMs, this.#bounds.sendTimeoutMs || maxQuietMs)
    if (session.pingedAt !== undefined) {
      if (now - session.pingedAt >= quietMs) end(session, noError)
    } else if (now - session.heardAt >= quietMs && !session.http2.destroyed) {
      session.pingedAt = now
      session.http2.ping(() => {})
    }
  }

  /** Whether a session sends far more than its requests and the responses it takes account for. */
  #isFlooding(session: Session, now: number): boolean {
    const { bytesRead, bytesWritten } = session.socket
    const read = bytesRead - session.bytesRead
    const written = bytesWritten - session.bytesWritten
    const requests = session.requests - session.sweptRequests
    const seconds = Math.max(1, (now - session.sweptAt) / 1000)
    session.resets = Math.max(0, session.resets - (resetsPerSecond * (now - session.sweptAt)) / 1000)
    Object.assign(session, { bytesRead, bytesWritten, sweptAt: now, sweptRequests: session.requests })
    if (read > 0) Object.assign(session, { heardAt: now, pingedAt: undefined })
    if (session.uploads.size > 0 || session.tunnels > 0) return false
    const allowed =
      controlBytesPerSecond * seconds + requests * this.#bounds.maxHeaderBytes + written / bytesPerWindowByte
    return read > allowed
  }
}

/** The connection is reset: nothing that this client does can keep it, or its descriptor, any longer. */
function end({ http2, socket, raw }: Session, code: number): void {
  if (code !== noError && !http2.destroyed) http2.goaway(code)
  http2.destroy()
  if (raw && !raw.destroyed) raw.resetAndDestroy()
  socket.destroy()
}

const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`
