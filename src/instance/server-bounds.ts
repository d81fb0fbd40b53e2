import type { Http2Server } from 'node:http2'
import type { Server, Socket } from 'node:net'
import { Http2Sessions } from '../base/http2-sessions.ts'
import { int, type OptionsOf, type Resolved } from '../base/options.ts'
import { guardConnections, StallGuard } from '../base/socket-bounds.ts'

const ms = int(0, 3_600_000, 'milliseconds')
const longMs = int(0, 86_400_000, 'milliseconds')

/** @internal */
export const boundOptions = {
  /**
   * Longest time for the headers of a request; 0: no limit. HTTP/1.1 servers keep their own `headersTimeout` (Node: 60 s)
   * unless this is set.
   */
  headersTimeoutMs: ms.default(60_000),
  /**
   * Longest time for a whole request; 0: no limit. HTTP/1.1 servers keep their own `requestTimeout`, except for Fastify's
   * default of 0, which disables Node's.
   */
  requestTimeoutMs: longMs.default(300_000),
  /** Time after which an HTTP/2 session without requests is closed; 0: never. */
  idleTimeoutMs: longMs.default(72_000),
  /** Time without progress after which a response is cut; 0: never. */
  sendTimeoutMs: ms.default(60_000),
  /** Per connection: HTTP/2 streams, and pipelined HTTP/1.1 requests, which are rejected with 429 above it. */
  maxConcurrentStreams: int(1, 65_535, 'requests').default(128),
  /** Open connections; further ones are closed at once. 0: no limit. */
  maxConnections: int(0, Number.MAX_SAFE_INTEGER, 'connections').default(0),
}
/** Limits for clients of an instance's server. Limits that the application set on its server itself are kept. */
export type ConnectionBounds = OptionsOf<typeof boundOptions>
export type ResolvedBounds = Resolved<typeof boundOptions>

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
