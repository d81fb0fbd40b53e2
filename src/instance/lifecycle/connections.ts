import type { IncomingMessage } from 'node:http'
import type { Server, Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Http2Sessions } from '../../base/http2-sessions.ts'
import { closeListener } from '../../base/internals/cluster-handles.ts'
import { boundServer, type ConnectionBounds, type ResolvedBounds } from '../server-bounds.ts'
import { type InFlight, InFlightList, type Request, type Response } from './in-flight.ts'

/** A request in flight, for the log line when the deadline cuts it. */
export interface UnfinishedRequest {
  method: string
  /** The route's pattern, not the URL, which may contain secrets. */
  route: string
  ageMs: number
}

/** Counts of an instance's requests and responses. */
export interface Flow {
  /** Requests in flight whose response has not started. */
  readonly waiting: number
  /** Responses started since the process start. */
  readonly responses: number
  /** Total time from request to the start of the response, of all {@link Flow.responses}, in ms. */
  readonly waitedMs: number
}

interface Connection {
  /** Whether it is closed when idle; HTTP/2 connections are closed by their session. */
  readonly swept: boolean
  bytes: number
  idleSince: number
  /** Time of the first sweep since its last request. */
  freeSince: number
  /** Requests without a complete response. */
  inFlight: number
}

/** Time of a turn of the event loop in which hardly a connection can have arrived unseen, ms. */
const shortTurnMs = 0.2
/** Time beyond the quiet time after which a connection that sends data but no request is closed, such as a WebSocket, ms. */
const freeMs = 2_000

/**
 * Open sockets, HTTP/2 sessions and requests in flight of all servers of an instance.
 *
 * Node's `server.close()` loses requests: it destroys idle keep-alive sockets at once, although a load balancer may be
 * sending on one. It also never closes a socket that turns idle later, sent nothing, or sent half a request. So the
 * listener, idle sockets and busy sockets are closed in three steps here.
 */
export class Connections {
  readonly #sockets = new Map<Socket, Connection>()
  readonly #sessions: Http2Sessions[] = []
  readonly #bounds: ResolvedBounds
  readonly #given: ConnectionBounds
  readonly #inFlight = new InFlightList()
  /** A stream or WebSocket stops waiting when its response starts. */
  readonly flow: { -readonly [K in keyof Flow]: Flow[K] } = { waiting: 0, responses: 0, waitedMs: 0 }
  readonly #onResponseClose: (this: Response) => void
  readonly #onSocketClose: (this: Socket) => void
  readonly #servers = new Set<Server>()
  readonly #onArrival: ((request: IncomingMessage, response: Response) => void) | undefined
  #accepted = 0

  /**
   * @param given the bounds that were set explicitly
   * @param onArrival called for each request before Fastify handles it, if routes without the plugin's hooks exist
   */
  constructor(
    bounds: ResolvedBounds,
    given: ConnectionBounds = {},
    onArrival?: (request: IncomingMessage, response: Response) => void,
  ) {
    this.#bounds = bounds
    this.#given = given
    this.#onArrival = onArrival
    const inFlight = this.#inFlight
    const { flow } = this
    const sockets = this.#sockets
    this.#onSocketClose = function onSocketClose(this: Socket) {
      sockets.delete(this)
    }
    this.#onResponseClose = function onResponseClose(this: Response) {
      const entry = inFlight.get(this)
      if (entry === undefined) return
      if (entry.waiting) flow.waiting--
      if (entry.connection) entry.connection.inFlight--
      inFlight.remove(entry)
    }
  }

  /** Tracks an HTTP, HTTPS or HTTP/2 server from now on. A second call for the same server is ignored. */
  watch(server: Server): void {
    if (this.#servers.has(server)) return
    this.#servers.add(server)
    const secure = 'setSecureContext' in server
    const http2 = 'updateSettings' in server
    server.on('connection', () => this.#accepted++)
    // With TLS, requests arrive on the socket above the raw one.
    server.on(secure ? 'secureConnection' : 'connection', (socket: Socket & { alpnProtocol?: string | false }) => {
      // An HTTP/2 socket is closed by its session, which knows the running streams.
      const swept = !http2 || (secure && socket.alpnProtocol !== 'h2')
      this.#sockets.set(socket, { swept, bytes: -1, idleSince: 0, freeSince: 0, inFlight: 0 })
      // One listener for all sockets; `once` would create two functions for each.
      socket.on('close', this.#onSocketClose)
    })
    if (this.#onArrival) server.prependListener('request', this.#onArrival)
    const sessions = boundServer(server, this.#bounds, this.#given)
    if (sessions) this.#sessions.push(sessions)
  }

  /**
   * Adds a request. It is removed when its response closes, whether sent, hijacked or aborted.
   *
   * @param request unknown before Fastify has found its route, and on routes without the plugin's hooks
   * @returns false if its connection has too many requests in flight
   */
  begin(response: Response, request?: Request): boolean {
    const entry = this.#inFlight.get(response) ?? this.#add(response)
    if (request) {
      entry.request = request
      entry.waiting = true
      this.flow.waiting++
    }
    return entry.connection === undefined || entry.connection.inFlight <= this.#bounds.maxConcurrentStreams
  }

  #add(response: Response): InFlight {
    // A pipelined response gets its socket late, so the request's is used. HTTP/2 sessions bound their streams themselves.
    const connection = 'stream' in response.req ? undefined : this.#sockets.get(response.req.socket)
    if (connection) connection.inFlight++
    // One listener for all; `once` would wrap it for every request, and a response closes once.
    response.on('close', this.#onResponseClose)
    return this.#inFlight.add(response, connection)
  }

  /** Called when a response starts. */
  responding(response: Response): void {
    const entry = this.#inFlight.get(response)
    if (entry?.waiting !== true) return
    entry.waiting = false
    this.flow.waiting--
    this.flow.responses++
    this.flow.waitedMs += performance.now() - entry.startedAt
  }

  get inFlight(): number {
    return this.#inFlight.size
  }

  /** Responses that are not complete. */
  responses(): Response[] {
    return this.#inFlight.entries().flatMap(({ response }) => response ?? [])
  }

  unfinished(): UnfinishedRequest[] {
    const now = performance.now()
    return this.#inFlight.entries().map(({ request, startedAt }) => ({
      method: request?.method ?? 'unknown',
      route: request?.routeOptions.url ?? 'unknown',
      ageMs: Math.round(now - startedAt),
    }))
  }

  /** Number of open sockets. */
  get open(): number {
    return this.#sockets.size
  }

  /** Sends GOAWAY to HTTP/2 clients: running streams finish, new ones need another connection (RFC 9113, 6.8). */
  goAway(): void {
    for (const sessions of this.#sessions) sessions.close()
  }

  /**
   * Stops listening and keeps open connections.
   *
   * When a listener closes, the kernel resets the connections in its accept queue. The listener is therefore closed
   * right after a short turn of the event loop in which no connection was accepted, so the queue was empty microseconds
   * ago. The number of turns is bounded.
   */
  async stopListening(): Promise<void> {
    for (let turn = 0, quiet = false; turn < 1_000 && !quiet; turn++) {
      const before = this.#accepted
      const since = performance.now()
      await nextTurn()
      quiet = turn > 0 && before === this.#accepted && performance.now() - since < shortTurnMs
    }
    for (const server of this.#servers) if (server.listening) closeListener(server)
  }

  /** Closes every socket without a request in flight on which nothing has arrived for `quietMs`. */
  sweep(quietMs: number): void {
    const busy = new Set<unknown>()
    for (const response of this.responses()) busy.add(response.socket)
    const now = performance.now()
    for (const [socket, connection] of this.#sockets) {
      if (!connection.swept) continue
      if (busy.has(socket)) {
        connection.idleSince = 0
        connection.freeSince = 0
        continue
      }
      connection.freeSince ||= now
      if (now - connection.freeSince >= quietMs + freeMs) {
        socket.destroy()
      } else if (connection.idleSince === 0 || connection.bytes !== socket.bytesRead) {
        connection.bytes = socket.bytesRead
        connection.idleSince = now
      } else if (now - connection.idleSince >= quietMs) {
        // The kernel may have a request that was not read yet. An immediate runs after the poll phase, which reads it.
        setImmediate(() => {
          if (connection.bytes === socket.bytesRead) socket.destroy()
        })
      }
    }
  }

  /** Destroys all connections. */
  destroy(): void {
    for (const sessions of this.#sessions) sessions.destroy()
    for (const socket of this.#sockets.keys()) socket.destroy()
  }
}
