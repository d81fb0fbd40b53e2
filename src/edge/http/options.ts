import type { TlsOptions } from 'node:tls'
import { int, list, object, path, resolveLegacy, type Shapes, shape, text } from '../../base/options.ts'
import type { BalancerOptions } from '../balancer/options.ts'
import type { TargetOptions } from '../balancer/target.ts'
import type { AdminOptions } from './admin.ts'

export interface ProxyOptions extends BalancerOptions {
  targets: readonly (string | TargetOptions)[]
  /** Paths that get 404, with everything below them. @default the operators' paths of an instance */
  block?: readonly string[]
  /**
   * Proxies in front of this one whose `X-Forwarded-*` are trusted: addresses, CIDR blocks, or `loopback`, `linklocal`,
   * `uniquelocal`. @default []
   */
  trustProxy?: readonly string[]
  /** Largest header block of a request, in bytes; 431 above it. @default 16384 */
  maxHeaderBytes?: number
  /** Most header fields of a request; 431 above it. @default 128 */
  maxHeaders?: number
  /** Largest request body, in bytes; 413 above it. 0: the upstream decides. @default 0 */
  maxBodyBytes?: number
  /**
   * A body up to this length, in bytes, is read whole before a target is chosen: a slow client does not occupy a target, and
   * the request can go to another target when one refuses the connection. Longer bodies are streamed. @default 65536
   */
  bufferBytes?: number
  /**
   * Time for a client to send its headers, in milliseconds, and for the TLS handshake. Never longer than `requestTimeoutMs`.
   * @default 15000
   */
  headersTimeoutMs?: number
  /** Time for a client to send its whole request, in milliseconds; 0: no limit. @default 300000 */
  requestTimeoutMs?: number
  /** Idle time of a client's connection, in milliseconds; must be longer than that of a load balancer in front. @default 72000 */
  keepAliveMs?: number
  /** A client that reads nothing of its response for this long is disconnected, in milliseconds. @default 60000 */
  sendTimeoutMs?: number
  /**
   * Requests that one connection may have in flight: HTTP/2 streams, and pipelined HTTP/1.1 requests, which get 429 above
   * it. 1 to 65,535. @default 128
   */
  maxConcurrentStreams?: number
  /** Requests after which a connection is closed; 0: no limit. @default 0 */
  maxRequestsPerConnection?: number
  /** Concurrent client connections; further ones are closed at once. 0: no limit. @default 0 */
  maxConnections?: number
  /** A tunnel (WebSocket) without traffic for this long is closed, in milliseconds; 0: never. @default 3600000 */
  tunnelTimeoutMs?: number
  /** Serve HTTPS with HTTP/2 and HTTP/1.1: `cert` and `key`, or other options of Node's `tls.createServer`. @default none */
  tls?: TlsOptions
  /** Listener for operators with `/metrics`, `/targets`, `/ready` and `/live` of the proxy itself. @default none */
  admin?: AdminOptions
  /** Time after which `close()` cuts requests that are still in flight, in milliseconds. @default 30000 */
  shutdownTimeoutMs?: number
}

export interface ResolvedProxyOptions
  extends Required<Omit<ProxyOptions, 'targets' | 'tls' | 'admin' | keyof BalancerOptions>> {
  tls?: TlsOptions
  admin?: AdminOptions
}

const ms = int(0, 3_600_000, 'milliseconds')

const proxyShapes: Shapes = {
  block: list(path),
  trustProxy: list(text),
  maxHeaderBytes: int(1024, 1024 * 1024, 'bytes'),
  maxBodyBytes: int(0, Number.MAX_SAFE_INTEGER, 'bytes'),
  bufferBytes: int(0, 16 * 1024 * 1024, 'bytes'),
  maxHeaders: int(1, 65_535, 'header fields'),
  maxConcurrentStreams: int(1, 65_535, 'requests'),
  maxRequestsPerConnection: int(0, Number.MAX_SAFE_INTEGER, 'requests'),
  maxConnections: int(0, Number.MAX_SAFE_INTEGER, 'connections'),
  tunnelTimeoutMs: int(0, 86_400_000, 'milliseconds'),
  headersTimeoutMs: ms,
  requestTimeoutMs: ms,
  keepAliveMs: ms,
  sendTimeoutMs: ms,
  shutdownTimeoutMs: ms,
  admin: object({ port: int(0, 65_535, 'a TCP port'), host: text, token: text }),
  tls: shape<TlsOptions>('an object with `cert` and `key`', (v) => typeof v === 'object' && v !== null),
}

const proxyDefaults: ResolvedProxyOptions = {
  block: ['/metrics', '/health/detailed', '/api/v1/load-balancer', '/fleet'],
  trustProxy: [],
  maxHeaderBytes: 16_384,
  maxHeaders: 128,
  maxBodyBytes: 0,
  bufferBytes: 65_536,
  headersTimeoutMs: 15_000,
  requestTimeoutMs: 300_000,
  keepAliveMs: 72_000,
  sendTimeoutMs: 60_000,
  maxConcurrentStreams: 128,
  maxRequestsPerConnection: 0,
  maxConnections: 0,
  tunnelTimeoutMs: 3_600_000,
  shutdownTimeoutMs: 30_000,
}

/**
 * Splits the options into those of the proxy, which it validates, and those of its balancer.
 *
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID
 */
export function resolveProxyOptions({ targets, ...given }: ProxyOptions): {
  targets: ProxyOptions['targets']
  proxy: ResolvedProxyOptions
  balancer: BalancerOptions
} {
  const part = (ofProxy: boolean): object =>
    Object.fromEntries(Object.entries(given).filter(([key]) => key in proxyShapes === ofProxy))
  return { targets, proxy: resolveLegacy('proxy', proxyShapes, proxyDefaults, part(true)), balancer: part(false) }
}
