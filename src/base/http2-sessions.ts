import type { Http2SecureServer, Http2Server, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { resetConnection, StallGuard, sweepMs } from './socket-bounds.ts'

/** Bounds of an HTTP/2 server, in milliseconds and bytes; 0: no limit. */
export interface Http2Bounds {
  /** Time from the connection to the first request. */
  readonly headersTimeoutMs: number
  /** Time without a request. */
  readonly idleTimeoutMs: number
  /** Time from a request's headers to the end of its body. */
  readonly requestTimeoutMs: number
  /** Time without progress of a response. */
  readonly sendTimeoutMs: number
  /** Largest header block of a request. */
  readonly maxHeaderBytes: number
  /** Requests after which a session gets GOAWAY. */
  readonly maxRequests: number
  /** As in the server's settings. A client may reset twice as many at once, and {@link resetsPerSecond} after that. */
  readonly maxConcurrentStreams: number
}

interface Session {
  readonly http2: ServerHttp2Session
  readonly socket: Socket
  /** The socket below TLS; undefined if it closed before its session started. */
  readonly raw: Socket | undefined
  readonly streams: Set<ServerHttp2Stream>
  /** Requests with an incomplete body, with their start times. */
  readonly uploads: Map<ServerHttp2Stream, number>
  /** Tunnels of extended CONNECT, whose bytes are not control frames. */
  tunnels: number
  requests: number
  /** Recently reset requests. */
  resets: number
  /** Time of the last request's end. */
  idleSince: number
  closing: boolean
  sweptAt: number
  sweptRequests: number
  bytesRead: number
  bytesWritten: number
  /** Time of the last received data, and of the PING sent after it. */
  heardAt: number
  pingedAt: number | undefined
}

/** After this time without data, a waiting client gets a PING and has the same time to respond. */
const maxQuietMs = 30_000
/**
 * Requests that a client may reset. Work that a reset request has started continues, so the number of open streams does not
 * bound a client that resets many (CVE-2023-44487). Node's own limit is 1,000 at once.
 */
const resetsPerSecond = 33
/** Bytes per second that a session may send besides requests: PING, SETTINGS, PRIORITY, empty frames, RST_STREAM. */
const controlBytesPerSecond = 256 * 1024
/** Clients send at most about one byte of WINDOW_UPDATE for this many received bytes. */
const bytesPerWindowByte = 64
/** RFC 9113 section 7. */
const noError = 0
const cancel = 8
const enhanceYourCalm = 11

/**
 * The sessions of an HTTP/2 server, with bounds that Node has for HTTP/1.1 only. One periodic check replaces a timer per
 * stream.
 */
export class Http2Sessions {
  readonly #bounds: Http2Bounds
  readonly #sessions = new Map<ServerHttp2Session, Session>()
  readonly #stalls: StallGuard
  /** Sockets below TLS by peer; only these can be reset. */
  readonly #raw = new Map<string, Socket>()
  #socket: Socket | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(bounds: Http2Bounds) {
    this.#bounds = bounds
    this.#stalls = new StallGuard(bounds.sendTimeoutMs)
  }

  /** Tracks a server; called before its first connection. */
  watch(server: Http2SecureServer | Http2Server): void {
    server.prependListener('connection', (socket: Socket) => {
      this.#socket = socket
      // The socket is closed, or a Unix socket, which cannot be reset.
      if (socket.remotePort === undefined) return
      const peer = peerOf(socket)
      this.#raw.set(peer, socket)
      socket.once('close', () => {
        if (this.#raw.get(peer) === socket) this.#raw.delete(peer)
      })
    })
    // A session does not expose its socket, so the socket is recorded right before the session is created.
    server.prependListener('secureConnection', (socket: Socket) => {
      this.#socket = socket
    })
    server.on('session', (session: ServerHttp2Session) => {
      const socket = this.#socket
      if (socket) this.#add(session, socket, this.#raw.get(peerOf(socket)))
    })
  }

  /** Sends GOAWAY to all: running streams finish, new ones need another connection (RFC 9113 section 6.8). */
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
    // One listener for all streams of a session.
    const onClose = function onClose(this: ServerHttp2Stream): void {
      session.streams.delete(this)
      session.uploads.delete(this)
      if (this.rstCode !== noError && ++session.resets >= maxResets && !http2.destroyed) {
        http2.destroy()
        // The socket must not be destroyed while it is being read.
        setImmediate(end, session, enhanceYourCalm)
      }
      session.idleSince = performance.now()
    }
    http2.on('stream', (stream: ServerHttp2Stream, headers) =>
      this.#begin(session, stream, headers[':method'], onClose),
    )
    http2.once('close', () => {
      this.#sessions.delete(http2)
      if (this.#sessions.size > 0) return
      clearInterval(this.#timer)
      this.#timer = undefined
    })
    const { headersTimeoutMs, idleTimeoutMs, requestTimeoutMs } = this.#bounds
    this.#timer ??= setInterval(() => this.#sweep(), sweepMs(headersTimeoutMs, idleTimeoutMs, requestTimeoutMs)).unref()
  }

  #begin(session: Session, stream: ServerHttp2Stream, method: string | undefined, onClose: () => void): void {
    session.requests++
    if (session.requests === this.#bounds.maxRequests) session.http2.close()
    if (stream.destroyed) return
    session.streams.add(stream)
    if (method === 'CONNECT') {
      session.tunnels++
      stream.once('close', () => session.tunnels--)
    } else if (!stream.endAfterHeaders) session.uploads.set(stream, performance.now())
    stream.on('close', onClose)
    this.#stalls.add(stream)
  }

  #sweep(): void {
    const now = performance.now()
    for (const session of this.#sessions.values()) {
      if (session.closing) end(session, noError)
      else if (this.#isFlooding(session, now)) end(session, enhanceYourCalm)
      else if (session.streams.size > 0) {
        this.#cutLateUploads(session, now)
        this.#checkLiveness(session, now)
      }
      // It got GOAWAY and has ended. If the client does not close its side, the next check cuts it.
      else if (session.http2.closed) session.closing = true
      else this.#closeIdle(session, now)
    }
  }

  #closeIdle(session: Session, now: number): void {
    const { headersTimeoutMs, idleTimeoutMs } = this.#bounds
    const limit = session.requests === 0 ? headersTimeoutMs : idleTimeoutMs
    if (limit === 0 || now - session.idleSince < limit) return
    // Without a request no GOAWAY is needed.
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
   * Node does not read while it writes, so it may not notice a reset connection, whose streams would stay until their
   * responses end.
   */
  #checkLiveness(session: Session, now: number): void {
    const quietMs = Math.min(maxQuietMs, this.#bounds.sendTimeoutMs || maxQuietMs)
    if (session.pingedAt !== undefined) {
      if (now - session.pingedAt >= quietMs) end(session, noError)
    } else if (now - session.heardAt >= quietMs && !session.http2.destroyed) {
      session.pingedAt = now
      session.http2.ping(() => {})
    }
  }

  /** Whether a session sends far more than its requests and received responses explain. */
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

/** Closes the connection at once, so that the client cannot keep it or its descriptor open. */
function end({ http2, socket, raw }: Session, code: number): void {
  if (code !== noError && !http2.destroyed) http2.goaway(code)
  if (raw && !raw.destroyed) {
    // A session that ends shuts its connection down, which JavaScript cannot see; see `resetConnection`.
    if (http2.closed || http2.destroyed) raw.destroy()
    else resetConnection(raw)
  }
  http2.destroy()
  socket.destroy()
}

const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`
