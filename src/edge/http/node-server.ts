import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http'
import { createSecureServer, type Http2SecureServer } from 'node:http2'
import { http } from '../../base/internals/node-http.ts'
import { guardConnections, sweepMs } from '../../base/socket-bounds.ts'
import type { ResolvedProxyOptions } from './options.ts'

export type RequestListener = (request: IncomingMessage, response: ServerResponse) => void

/** Memory of one HTTP/2 session, in MB: Node's default. */
const maxSessionMemory = 10

/**
 * Creates the proxy's server with all bounds that Node supports. {@link Http2Sessions} adds the missing ones for HTTP/2.
 *
 * @param maxHeaderBlockBytes longest head of a response over HTTP/2, plus 12 bytes per field; Node closes the whole session
 * when a head is longer
 */
export function createProxyServer(
  options: ResolvedProxyOptions,
  maxHeaderBlockBytes: number,
  listener: RequestListener,
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
    // Skips the stream events of requests without a body, which are the majority. Since Node 24.12.
    optimizeEmptyRequests: true,
    noDelay: true,
    // The kernel detects clients that vanished, also on tunnels and idle streams.
    keepAlive: true,
    keepAliveInitialDelay: 30_000,
  }
  // Upgrades to other protocols (h2c) apply to one connection and are not forwarded: RFC 9110 section 7.8.
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
          // The limit includes pseudo-header fields.
          maxHeaderListPairs: maxHeaders + 5,
          settings: { maxHeaderListSize: maxHeaderBytes, maxConcurrentStreams, enableConnectProtocol: true },
          shouldUpgradeCallback,
        } as never,
        listener as never,
      )
    : http.createServer({ ...common, shouldUpgradeCallback } as ServerOptions, listener)
  // Node silently drops fields above its limit; the proxy responds 431 instead.
  Object.assign(server, { maxHeadersCount: 0, maxRequestsPerSocket: options.maxRequestsPerConnection })
  if (options.maxConnections > 0) server.maxConnections = options.maxConnections
  guardConnections(server)
  return server
}

/** Node rejects a headers timeout that is longer than the request timeout. */
export const effectiveHeadersTimeoutMs = ({ headersTimeoutMs, requestTimeoutMs }: ResolvedProxyOptions): number =>
  requestTimeoutMs > 0 ? Math.min(headersTimeoutMs || requestTimeoutMs, requestTimeoutMs) : headersTimeoutMs

/**
 * Whether a request came over HTTP/2. Its version is no proof: on an HTTP/1.1 connection Node's parser accepts `HTTP/2.0`
 * in the request line.
 */
export const isHttp2 = (request: IncomingMessage): boolean => 'stream' in request

export const isWebSocket = ({ method, headers }: IncomingMessage): boolean =>
  method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket'
