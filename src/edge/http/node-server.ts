import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http'
import { createSecureServer, type Http2SecureServer } from 'node:http2'
import { http } from '../../base/internals/node-http.ts'
import { guardConnections, sweepMs } from '../../base/socket-bounds.ts'
import type { ResolvedProxyOptions } from './options.ts'

/** Called with each request. */
export type Serve = (request: IncomingMessage, response: ServerResponse) => void

/** Memory that one HTTP/2 session may use, in MB: Node's own default. */
const maxSessionMemory = 10
/**
 * The proxy's server with all bounds that Node itself has; {@link Http2Sessions} adds those it lacks for HTTP/2.
 *
 * @param maxHeaderBlockBytes longest head of a response over HTTP/2, with 12 bytes for each field: a longer one makes Node
 * close the whole session
 */
export function createProxyServer(
  options: ResolvedProxyOptions,
  maxHeaderBlockBytes: number,
  serve: Serve,
): Server | Http2SecureServer {
  const { maxHeaderBytes, maxHeaders, requestTimeoutMs, keepAliveMs, maxConcurrentStreams, tls } = options
  const headersTimeoutMs = effectiveHeadersTimeoutMs(options)
  const common: ServerOptions = {
    maxHeaderSize: maxHeaderBytes,
    headersTimeout: headersTimeoutMs,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveMs,
    connectionsCheckingInterval: Math.ceil(sweepMs(headersTimeoutMs, requestTimeoutMs)),
    insecureHTTPParser: false,
    // Most requests have no body: they need not be taken through the life of a stream. Known from Node 24.12 on.
    optimizeEmptyRequests: true,
    noDelay: true,
    // A client that vanished without a word is found out by the kernel, in tunnels and silent streams too.
    keepAlive: true,
    keepAliveInitialDelay: 30_000,
  }
  // Other protocols (h2c) are for this connection only and are not asked for upstream: RFC 9110 section 7.8.
  const shouldUpgradeCallback = isWebSocket
  const server = tls
    ? createSecureServer(
        {
          ...common,
          handshakeTimeout: headersTimeoutMs === 0 ? undefined : headersTimeoutMs,
          ...tls,
          allowHTTP1: true,
          maxSessionMemory,
          maxSendHeaderBlockLength: maxHeaderBlockBytes,
          // Pseudo-header fields count as well.
          maxHeaderListPairs: maxHeaders + 5,
          settings: { maxHeaderListSize: maxHeaderBytes, maxConcurrentStreams, enableConnectProtocol: true },
          shouldUpgradeCallback,
        } as never,
        serve as never,
      )
    : http.createServer({ ...common, shouldUpgradeCallback } as ServerOptions, serve)
  // Node drops what is above its own limit without a word; the proxy answers with 431 instead.
  Object.assign(server, { maxHeadersCount: 0, maxRequestsPerSocket: options.maxRequestsPerConnection })
  if (options.maxConnections > 0) server.maxConnections = options.maxConnections
  guardConnections(server)
  return server
}

/** Node refuses a deadline for headers that is later than the one for the whole request. */
export const effectiveHeadersTimeoutMs = ({ headersTimeoutMs, requestTimeoutMs }: ResolvedProxyOptions): number =>
  requestTimeoutMs > 0 ? Math.min(headersTimeoutMs || requestTimeoutMs, requestTimeoutMs) : headersTimeoutMs

/**
 * Whether a request came over HTTP/2. Its version does not tell: on an HTTP/1.1 connection Node's parser takes `HTTP/2.0` in
 * the request line for what it says.
 */
export const isHttp2 = (request: IncomingMessage): boolean => 'stream' in request

export const isWebSocket = ({ method, headers }: IncomingMessage): boolean =>
  method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket'
