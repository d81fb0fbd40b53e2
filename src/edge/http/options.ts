import type { TlsOptions } from 'node:tls'
import {
  either,
  int,
  list,
  type OptionsOf,
  object,
  path,
  type Resolved,
  record,
  resolveOptions,
  type Shape,
  shape,
  text,
} from '../../base/options.ts'
import type { BalancerOptions } from '../balancer/options.ts'
import type { TargetOptions } from '../balancer/target.ts'
import { maxBodyBytes, type PoolOptions, type ResolvedPool, resolvePools, resolveRoutes } from './pool-options.ts'
import type { Route, Router } from './routes.ts'

const ms = int(0, 3_600_000, 'milliseconds')

/** Options of the operators' listener. `port` is required. */
const adminOptions = {
  /** 0: any free port. */
  port: int(0, 65_535, 'a TCP port'),
  /** Address of the listener. @default `127.0.0.1` */
  host: text,
  /**
   * Bearer token of at least 32 bytes that every request must have. @default `FLEET_ADMIN_TOKEN`; not required on loopback
   * outside production
   */
  token: text,
}

/** @internal */
export const proxyOptions = {
  /** Pools by name. Requests that no route matches go to the pool `default`, whose targets are those of the proxy. */
  pools: record(object({}) as Shape<PoolOptions>).default({}),
  /** Which requests go to which pool, as a list or as text: `/api/v2=v2 //shop.example.com=shop x-version:2=v2`. */
  routes: either(list(object({}) as Shape) as Shape<readonly Route[]>, text).default([]),
  /** Paths that get 404, with everything below them. By default the operators' paths of an instance. */
  block: (list(path) as Shape<readonly string[]>).default([
    '/metrics',
    '/health/detailed',
    '/api/v1/load-balancer',
    '/fleet',
  ]),
  /**
   * Proxies in front of this one whose `X-Forwarded-*` are trusted: addresses, CIDR blocks, or `loopback`, `linklocal`,
   * `uniquelocal`.
   */
  trustProxy: (list(text) as Shape<readonly string[]>).default([]),
  /** Largest header block of a request; 431 above it. */
  maxHeaderBytes: int(1024, 1024 * 1024, 'bytes').default(16_384),
  /** Most header fields of a request; 431 above it. */
  maxHeaders: int(1, 65_535, 'header fields').default(128),
  /** Largest request body; 413 above it. 0: the upstream decides. */
  maxBodyBytes: maxBodyBytes.default(0),
  /**
   * A body up to this length is read whole before a target is chosen: a slow client does not occupy a target, and the
   * request can go to another target when one refuses the connection. Longer bodies are streamed.
   */
  bufferBytes: int(0, 16 * 1024 * 1024, 'bytes').default(65_536),
  /** Time for a client to send its headers, and for the TLS handshake. Never longer than `requestTimeoutMs`. */
  headersTimeoutMs: ms.default(15_000),
  /** Time for a client to send its whole request; 0: no limit. */
  requestTimeoutMs: ms.default(300_000),
  /** Idle time of a client's connection; must be longer than that of a load balancer in front. */
  keepAliveMs: ms.default(72_000),
  /** A client that reads nothing of its response for this long is disconnected. */
  sendTimeoutMs: ms.default(60_000),
  /**
   * Requests that one connection may have in flight: HTTP/2 streams, and pipelined HTTP/1.1 requests, which get 429 above
   * it.
   */
  maxConcurrentStreams: int(1, 65_535, 'requests').default(128),
  /** Requests after which a connection is closed; 0: no limit. */
  maxRequestsPerConnection: int(0, Number.MAX_SAFE_INTEGER, 'requests').default(0),
  /** Concurrent client connections; further ones are closed at once. 0: no limit. */
  maxConnections: int(0, Number.MAX_SAFE_INTEGER, 'connections').default(0),
  /** A tunnel (WebSocket) without traffic for this long is closed; 0: never. */
  tunnelTimeoutMs: int(0, 86_400_000, 'milliseconds').default(3_600_000),
  /** Serve HTTPS with HTTP/2 and HTTP/1.1: `cert` and `key`, or other options of Node's `tls.createServer`. */
  tls: shape<TlsOptions>('an object with `cert` and `key`', (v) => typeof v === 'object' && v !== null),
  /** Listener for operators with `/metrics`, `/targets`, `/ready` and `/live` of the proxy itself. */
  admin: object(adminOptions),
  /** Time after which `close()` cuts requests that are still in flight. */
  shutdownTimeoutMs: ms.default(30_000),
}
export type AdminOptions = OptionsOf<typeof adminOptions> & { port: number }
export type ProxyOptions = BalancerOptions &
  Omit<OptionsOf<typeof proxyOptions>, 'admin'> & {
    /** Targets of the pool `default`. */
    targets?: readonly (string | TargetOptions)[]
    admin?: AdminOptions
  }
export type ResolvedProxyOptions = Omit<Resolved<typeof proxyOptions>, 'admin'> & { readonly admin?: AdminOptions }

/**
 * Splits the options into those of the proxy, which it validates, and those of its pools.
 *
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID
 */
export function resolveProxyOptions({ targets, ...given }: ProxyOptions): {
  proxy: ResolvedProxyOptions
  pools: readonly ResolvedPool[]
  router: Router<string> | undefined
} {
  const part = (ofProxy: boolean): object =>
    Object.fromEntries(Object.entries(given).filter(([key]) => key in proxyOptions === ofProxy))
  const proxy = resolveOptions('proxy', proxyOptions, part(true)) as ResolvedProxyOptions
  const pools = resolvePools(proxy, targets, part(false))
  return { proxy, pools, router: resolveRoutes(proxy.routes, pools) }
}
