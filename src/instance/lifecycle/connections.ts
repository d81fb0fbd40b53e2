import { type Server, type Socket, Server as TcpServer } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Http2Sessions } from '../../base/http2-sessions.ts'
import { boundServer, type ConnectionBounds, type ResolvedBounds } from '../server-bounds.ts'
import { type Request, type Response, WorkList } from './in-flight.ts'

/** A request that has not been answered yet, for the log line when it must be cut. */
export interface InFlight {
  method: string
  /** The route's pattern, never the raw URL, which may carry secrets. */
  route: string
  ageMs: number
}

/** How requests go through an instance. */
export interface Flow {
  /** Requests at work whose answer has not begun. */
  readonly waiting: number
  /** Answers begun since the start, and the time until then of all of them together, in ms. */
  readonly answered: number
  readonly waitedMs: number
}

interface Open {
  readonly swept: boolean
  bytes: number
  idleSince: number
  /** Requests on it that are not answered yet. */
  atWork: number
}

/**
 * What a server has open: sockets, HTTP/2 sessions and unanswered requests.
 *
 * Node's `server.close()` is not enough to leave without a loss. It destroys idle keep-alive sockets at once, though a
 * front may just be sending on one; it never closes a socket that turns idle later, nor one that sent nothing or half
 * a request. So the listener, the idle sockets and the busy ones are closed in three steps of their own here.
 */
export class Connections {
  readonly #sockets = new Map<Socket, Open>()
  readonly #sessions: Http2Sessions[] = []
  readonly #bounds: ResolvedBounds
  readonly #given: ConnectionBounds
  readonly #work = new WorkList()
  /** What goes on being sent, a stream or a WebSocket, does not wait any more. */
  readonly flow: { -readonly [K in keyof Flow]: Flow[K] } = { waiting: 0, answered: 0, waitedMs: 0 }
  readonly #ended: (this: Response) => void
  readonly #gone: (this: Socket) => void
  readonly #servers = new Set<Server>()
  #accepted = 0

  /** @param given what of the bounds is no default */
  constructor(bounds: ResolvedBounds, given: ConnectionBounds = {}) {
    this.#bounds = bounds
    this.#given = given
    const work = this.#work
    const { flow } = this
    const sockets = this.#sockets
    this.#gone = function gone(this: Socket) {
      sockets.delete(this)
    }
    this.#ended = function ended(this: Response) {
      const own = work.get(this)
      if (own === undefined) return
      if (own.waiting) flow.waiting--
      if (own.connection) own.connection.atWork--
      work.remove(own)
    }
  }

  /** Follows a server from now on. HTTP, HTTPS and HTTP/2 servers alike; a second call for the same one is ignored. */
  watch(server: Server): void {
    if (this.#servers.has(server)) return
    this.#servers.add(server)
    const secure = 'setSecureContext' in server
    const http2 = 'updateSettings' in server
    server.on('connection', () => this.#accepted++)
    // Behind TLS the raw socket never sees a request: the one above it does.
    server.on(secure ? 'secureConnection' : 'connection', (socket: Socket & { alpnProtocol?: string | false }) => {
      // An HTTP/2 socket ends with its session, which knows what is still running on it.
      const swept = !http2 || (secure && socket.alpnProtocol !== 'h2')
      this.#sockets.set(socket, { swept, bytes: -1, idleSince: 0, atWork: 0 })
      // One function for all: there may be ten thousand of them, and `once` keeps two more for each.
      socket.on('close', this.#gone)
    })
    const sessions = boundServer(server, this.#bounds, this.#given)
    if (sessions) this.#sessions.push(sessions)
  }

  /**
   * A request begins; it ends by itself when its response is closed, whether sent, hijacked or aborted.
   *
   * @returns false when its connection has too many in flight already
   */
  begin(response: Response, request: Request): boolean {
    // A pipelined response gets its socket when it is its turn. The number of HTTP/2 streams is bounded by their session.
    const connection = 'stream' in response.req ? undefined : this.#sockets.get(response.req.socket)
    this.#work.add(response, request, connection)
    this.flow.waiting++
    // One function for all, and `on`: `once` would wrap it anew for every request. A response closes once.
    response.on('close', this.#ended)
    return connection === undefined || ++connection.atWork <= this.#bounds.maxConcurrentStreams
  }

  /** The answer to a request begins. */
  answering(response: Response): void {
    const work = this.#work.get(response)
    if (work?.waiting !== true) return
    work.waiting = false
    this.flow.waiting--
    this.flow.answered++
    this.flow.waitedMs += performance.now() - work.startedAt
  }

  get inFlight(): number {
    return this.#work.size
  }

  /** Responses that are being sent or waited for. */
  responses(): Response[] {
    return this.#work.responses()
  }

  unanswered(): InFlight[] {
    const now = performance.now()
    return this.#work.requests().map(({ request, startedAt }) => ({
      method: request.method,
      route: request.routeOptions.url ?? 'unknown',
      ageMs: Math.round(now - startedAt),
    }))
  }

  get open(): number {
    return this.#sockets.size
  }

  /** HTTP/2 clients get GOAWAY: running streams end, new ones go elsewhere (RFC 9113, section 6.8). */
  goAway(): void {
    for (const sessions of this.#sessions) sessions.close()
  }

  /**
   * Stops listening; open connections are left as they are.
   *
   * The kernel resets every connection that waits in the accept queue when its listener closes. The listener is
   * therefore closed right after a turn of the event loop in which nothing was accepted: the queue was empty
   * microseconds ago. Under a rush of connections the wait is bounded.
   */
  async stopListening(): Promise<void> {
    for (let turn = 0, before = -1; turn < 1_000 && before !== this.#accepted; turn++) {
      before = this.#accepted
      await nextTurn()
    }
    // Not `server.close()`: on an HTTP server that also destroys the idle sockets.
    for (const server of this.#servers) if (server.listening) TcpServer.prototype.close.call(server)
  }

  /** Closes every socket on which nothing happened for `quietMs` milliseconds and no answer is due. */
  sweep(quietMs: number): void {
    const busy = new Set<unknown>()
    for (const response of this.#work.responses()) busy.add(response.socket)
    const now = performance.now()
    for (const [socket, seen] of this.#sockets) {
      if (!seen.swept || busy.has(socket)) {
        seen.idleSince = 0
      } else if (seen.idleSince === 0 || seen.bytes !== socket.bytesRead) {
        seen.bytes = socket.bytesRead
        seen.idleSince = now
      } else if (now - seen.idleSince >= quietMs) {
        // The kernel may hold a request that nobody has read yet. After the poll that comes before an immediate, what
        // has not been read was not there.
        setImmediate(() => {
          if (seen.bytes === socket.bytesRead) socket.destroy()
        })
      }
    }
  }

  /** Ends everything at once. */
  cut(): void {
    for (const sessions of this.#sessions) sessions.destroy()
    for (const socket of this.#sockets.keys()) socket.destroy()
  }
}
