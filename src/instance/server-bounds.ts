import type { Http2Server } from 'node:http2'
import type { Server, Socket } from 'node:net'
import { Http2Sessions } from '../base/http2-sessions.ts'
import { int, type Shapes } from '../base/options.ts'
import { guardConnections, StallGuard } from '../base/socket-bounds.ts'

/** Limits for clients of an instance's server. Limits that the application set on its server itself are kept. */
export interface ConnectionBounds {
  /**
   * Longest time for the headers of a request, 0 to 3,600,000 ms; 0: no limit. HTTP/1.1 servers keep their own
   * `headersTimeout` (Node: 60 s) unless this is set. @default 60000
   */
  headersTimeoutMs?: number
  /**
   * Longest time for a whole request, 0 to 86,400,000 ms; 0: no limit. HTTP/1.1 servers keep their own
   * `requestTimeout`, except for Fastify's default of 0, which disables Node's. @default 300000
   */
  requestTimeoutMs?: number
  /** Time after which an HTTP/2 session without requests is closed, 0 to 86,400,000 ms; 0: never. @default 72000 */
  idleTimeoutMs?: number
  /** Time without progress after which a response is cut, 0 to 3,600,000 ms; 0: never. @default 60000 */
  sendTimeoutMs?: number
  /**
   * Requests in flight per connection, 1 to 65,535: HTTP/2 streams, and pipelined HTTP/1.1 requests, which are rejected
   * with 429 above it. @default 128
   */
  maxConcurrentStreams?: number
  /** Open connections; further ones are closed at once. 0: no limit. @default 0 */
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

/** Node's limit for HTTP/1.1; HTTP/2 has no default. */
const maxHeaderBytes = 16_384

/** Members that HTTP/2 servers lack. */
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
  // Node silently drops header fields above this number, so a client could make the `X-Forwarded-For` of a proxy disappear.
  // The size of headers is limited anyway.
  server.maxHeadersCount ??= 0
}
