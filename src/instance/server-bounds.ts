import type { Http2Server } from 'node:http2'
import type { Server, Socket } from 'node:net'
import { Http2Sessions } from '../base/http2-sessions.ts'
import { int, type Shapes } from '../base/options.ts'
import { guardConnections, StallGuard } from '../base/socket-bounds.ts'

/** What clients may ask of an instance's server. What the application set on its server itself stands. */
export interface ConnectionBounds {
  /**
   * A client must have sent its headers by then, 0 to 3,600,000 ms; 0: no limit. HTTP/1.1 servers keep their own
   * `headersTimeout` (Node: 60 s) unless this is given. @default 60000
   */
  headersTimeoutMs?: number
  /**
   * A client must have sent its whole request by then, 0 to 86,400,000 ms; 0: no limit. HTTP/1.1 servers keep a
   * `requestTimeout` of their own; Fastify switches Node's off by default, and that counts as none. @default 300000
   */
  requestTimeoutMs?: number
  /** An HTTP/2 session without a request is closed after this time, 0 to 86,400,000 ms; 0: never. @default 72000 */
  idleTimeoutMs?: number
  /** A client that takes nothing of its response for this long is cut off, 0 to 3,600,000 ms; 0: never. @default 60000 */
  sendTimeoutMs?: number
  /**
   * Requests that one connection may have in flight, 1 to 65,535: HTTP/2 streams, and pipelined HTTP/1.1 requests, of which
   * those above are answered with 429. @default 128
   */
  maxConcurrentStreams?: number
  /** Connections at once; those above are closed at once. 0: no limit. @default 0 */
  maxConnections?: number
}

export type ResolvedBounds = Required<ConnectionBounds>

const ms = int(0, 3_600_000, 'milliseconds')
const longMs = int(0, 86_400_000, 'milliseconds')

export const boundShapes: Shapes = {
  headersTimeoutMs: ms,
  requestTimeoutMs: longMs,
  idleTimeoutMs: longMs,
  sendTimeoutMs: ms,
  maxConcurrentStreams: int(1, 65_535, 'requests'),
  maxConnections: int(0, Number.MAX_SAFE_INTEGER, 'connections'),
}

export const boundDefaults: ResolvedBounds = {
  headersTimeoutMs: 60_000,
  requestTimeoutMs: 300_000,
  idleTimeoutMs: 72_000,
  sendTimeoutMs: 60_000,
  maxConcurrentStreams: 128,
  maxConnections: 0,
}

/** Node's own limit for HTTP/1.1, which it has no default of for HTTP/2. */
const maxHeaderBytes = 16_384

/** Members of HTTP/1.1 servers, which those of HTTP/2 lack. */
interface Http1Server extends Server {
  headersTimeout: number
  requestTimeout: number
  maxHeadersCount: number | null
}

/** Sets bounds on a server before its first connection. @returns its HTTP/2 sessions, if there can be any */
export function boundServer(
  server: Server | Http1Server | Http2Server,
  bounds: ResolvedBounds,
  given: ConnectionBounds = {},
): Http2Sessions | undefined {
  guardConnections(server)
  const stalls = new StallGuard(bounds.sendTimeoutMs)
  const event = 'setSecureContext' in server ? 'secureConnection' : 'connection'
  server.on(event, (socket: Socket) => stalls.add(socket))
  if (bounds.maxConnections > 0) server.maxConnections = bounds.maxConnections
  if ('requestTimeout' in server) boundHttp1(server, bounds, given)
  if (!('updateSettings' in server)) return undefined
  server.updateSettings({ maxConcurrentStreams: bounds.maxConcurrentStreams, maxHeaderListSize: maxHeaderBytes })
  const sessions = new Http2Sessions({ ...bounds, maxHeaderBytes, maxRequests: 0 })
  sessions.watch(server)
  return sessions
}

function boundHttp1(server: Http1Server, bounds: ResolvedBounds, given: ConnectionBounds): void {
  if (server.requestTimeout === 0) server.requestTimeout = bounds.requestTimeoutMs
  if (given.headersTimeoutMs !== undefined) server.headersTimeout = given.headersTimeoutMs
  // Node leaves out header fields above a number without a word: behind a proxy that appends `X-Forwarded-For`, a client could
  // so make it vanish. Their size is limited anyway.
  server.maxHeadersCount ??= 0
}
