import { createHash } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import type { Dispatcher, Pool } from 'undici'
import { undici } from '../../base/internals/undici.ts'
import {
  bool,
  either,
  int,
  list,
  type OptionsOf,
  type Resolved,
  resolveOptions,
  shape,
  text,
} from '../../base/options.ts'
import { guard } from '../boundary.ts'
import { HeaderLines } from '../http/headers.ts'
import { type ConnectionPool, connectTo } from '../http/wire/connect.ts'
import type { WireRequest } from '../http/wire/request-writer.ts'
import type { ServerTls } from '../http/wire/socket.ts'
import { addressOf, authorityOf, basePathOf, isTls, parseTarget } from '../target-url.ts'
import { PeakEwma } from './peak-ewma.ts'
import { withRetryHeader } from './retry-rules.ts'

/** A name for `Buffer` in the published types: the one that the compiler writes does not exist before TypeScript 5.7. */
export interface PemBytes extends Buffer {}
const pem = shape<string | PemBytes>('PEM text', (v) => (typeof v === 'string' && v !== '') || Buffer.isBuffer(v))

/** @internal */
export const targetOptions = {
  /**
   * `http://host:port` or `https://host:port`, with the path below which its requests go; for a Unix domain socket
   * `unix+http://%2Frun%2Fapp.sock`; for the TCP proxy `tcp://host:port`.
   */
  url: text,
  /** Share of traffic relative to the other targets; with 0 it receives none. */
  weight: int(0, 1000).default(100),
  /** Used only while no primary target can accept a request. */
  backup: bool.default(false),
  /** Receives requests of `canaryPercent` of the clients; the other targets receive the rest. */
  canary: bool.default(false),
  /** Requests (layer 4: connections) in flight at once; further ones wait in the queue. 0: no limit. */
  maxConnections: int(0, 1_000_000).default(0),
  /** Name of the target. @default a hash of the URL, which identifies the target without exposing its address */
  id: text,
  /** Name that the certificate of an `https` target must be valid for. @default the host in its URL */
  serverName: text,
  /** Certificate authorities that may sign its certificate. @default those of Node */
  ca: either(pem, list(pem)),
  /** Certificate chain to present to the target. */
  cert: pem,
  /** Private key of `cert`. */
  key: pem,
  /** With false, any certificate is accepted: for tests only. */
  rejectUnauthorized: bool.default(true),
  /** Send requests over HTTP/2: with `https` by ALPN, with `http` by prior knowledge. Upgrades use HTTP/1.1. */
  http2: bool.default(false),
  /** Region of the target, for operators. */
  region: text,
  /** Zone of the target, for operators. */
  zone: text,
}
/** `url` is required. */
export type TargetOptions = OptionsOf<typeof targetOptions> & { url: string }

/**
 * `unproven`: not probed yet · `up`: in rotation · `draining`: serves, but receives no new work · `down`: failed its
 * probes or refused a connection · `ejected`: removed as an outlier (see outliers.ts).
 */
export type TargetState = 'unproven' | 'up' | 'draining' | 'down' | 'ejected'

/** Bounds of the upstream connections. */
export const connectionOptions = {
  /** Longest time to connect. */
  connectTimeoutMs: int(1, 3_600_000, 'milliseconds').default(2000),
  /** From the request until the response headers. */
  responseTimeoutMs: int(1, 3_600_000, 'milliseconds').default(60_000),
  /** Between two chunks of a response body; 0: no limit. */
  bodyTimeoutMs: int(0, 3_600_000, 'milliseconds').default(300_000),
  /**
   * An idle connection is not reused after this time. It must be shorter than the upstream's keep-alive timeout, or
   * requests are sent on connections that are just being closed: Node's default is 5 s, Fastify's 72 s.
   */
  keepAliveMs: int(1, 3_600_000, 'milliseconds').default(4000),
  /**
   * The same for requests that must not be sent twice. A draining instance closes connections that were idle for 250 ms.
   * A request written to one at that moment is lost and could not be retried. A new connection is refused instead, and
   * the request goes to another target.
   */
  unsafeKeepAliveMs: int(1, 3_600_000, 'milliseconds').default(150),
  /** Largest header block of a response. */
  maxHeaderBytes: int(1024, 1024 * 1024, 'bytes').default(32_768),
}
export type ConnectionOptions = Resolved<typeof connectionOptions>

/** A request to an upstream. With {@link HeaderLines} it needs no validation, and its body may be an async iterable. */
export type UpstreamRequest = Dispatcher.DispatchOptions

/** One upstream: its address, its state and the connections to it. Only {@link Rotation} changes the state. */
export class Target {
  readonly id: string
  readonly url: URL
  readonly backup: boolean
  readonly canary: boolean
  readonly maxConnections: number
  readonly region?: string
  readonly zone?: string
  /** For TLS: the name that its certificate must be valid for. */
  readonly serverName?: string
  readonly tls: ServerTls
  readonly http2: boolean
  /** Path in front of the path of every request; empty for none. */
  readonly basePath: string
  weight: number
  state: TargetState = 'unproven'
  /** Monotonic milliseconds at which the state changed last. */
  since: number = performance.now()
  inflight = 0
  /** Those in flight that have no outcome so far: no response, or on layer 4 no connection. */
  pending = 0
  /** Monotonic milliseconds at which slow start began; undefined after it has ended. */
  warmFrom: number | undefined
  /** Back from an ejection (circuit breaker half-open): it gets the next request after the outcome of the previous one. */
  onTrial = false
  /** The latest response was a failure. */
  failing = false
  served = 0
  failed = 0
  /** Milliseconds until the response headers. */
  readonly latency: PeakEwma = new PeakEwma()
  readonly #connections: ConnectionOptions
  #pools: Partial<Record<'safe' | 'unsafe' | 'safeHttp2' | 'unsafeHttp2', Pool>> = {}
  #wire: ConnectionPool | undefined

  /** @throws FLEET_ERR_TARGET_INVALID, FLEET_ERR_OPTION_INVALID */
  constructor(given: TargetOptions, connections: ConnectionOptions) {
    const resolved = resolveOptions('target', targetOptions, given)
    const { url, id, weight, backup, canary, maxConnections, region, zone, serverName, http2 } = resolved
    const { ca, cert, key, rejectUnauthorized } = resolved
    this.url = parseTarget(url)
    this.basePath = basePathOf(this.url)
    // Unless it is set, NODE_TLS_REJECT_UNAUTHORIZED applies.
    this.tls = { ca, cert, key, ...(!rejectUnauthorized && { rejectUnauthorized }) }
    this.http2 = http2
    this.id = id ?? createHash('sha256').update(this.url.href).digest('hex').slice(0, 12)
    this.weight = weight
    this.backup = backup
    this.canary = canary
    this.maxConnections = maxConnections
    this.region = region
    this.zone = zone
    this.serverName = serverName
    this.#connections = connections
  }

  get full(): boolean {
    if (this.onTrial && this.pending > 0) return true
    return this.maxConnections > 0 && this.inflight >= this.maxConnections
  }

  /**
   * Sends a request, below the path of the target's URL. Those of the proxy use its own connections; upgrades, and requests
   * that still need validation, use undici.
   *
   * @param handler with `rejectable`, a draining target is asked to reject the request
   * @param repeatable see {@link Target.pool}
   */
  send(
    options: UpstreamRequest,
    handler: Dispatcher.DispatchHandler & { rejectable: boolean },
    repeatable: boolean,
  ): void {
    const { method, headers, body = null, upgrade, headersTimeout } = options
    const { rejectable } = handler
    // Without a path of its own, the request is for the path of the target.
    const joined = this.basePath + options.path
    const path = joined[0] === '/' ? joined : `/${joined}`
    if (headers instanceof HeaderLines && !upgrade) {
      this.#wire ??= connectTo(this, this.#connections)
      const lines = headers.hasHost ? headers.text : `host: ${authorityOf(this.url)}\r\n${headers.text}`
      const responseTimeoutMs = headersTimeout ?? undefined
      const request = { method, path, headers: lines, body: body as WireRequest['body'], rejectable, responseTimeoutMs }
      this.#wire.dispatch(request, handler, repeatable)
    } else {
      const own = { ...options, path }
      this.pool(repeatable, this.http2 && !upgrade).dispatch(rejectable ? withRetryHeader(own) : own, handler)
    }
  }

  /** @param repeatable whether a request may be sent again when its connection turns out to be dead */
  pool(repeatable: boolean, http2: boolean = this.http2): Pool {
    const kind = `${repeatable ? 'safe' : 'unsafe'}${http2 ? 'Http2' : ''}` as const
    const { keepAliveMs, unsafeKeepAliveMs } = this.#connections
    this.#pools[kind] ??= this.#connect(repeatable ? keepAliveMs : unsafeKeepAliveMs, http2)
    return this.#pools[kind]
  }

  /**
   * Closes idle connections; those in use close after their requests. A draining instance closes its idle connections
   * soon, and a request written to one at that moment would be lost.
   */
  async disconnect(): Promise<void> {
    const closing = [...Object.values(this.#pools), this.#wire]
    this.#pools = {}
    this.#wire = undefined
    // An error while closing still closes the connection.
    await Promise.allSettled(closing.map((pool) => pool?.close()))
  }

  #connect(keepAliveMs: number, http2: boolean): Pool {
    const { connectTimeoutMs, responseTimeoutMs, bodyTimeoutMs, maxHeaderBytes } = this.#connections
    const address = addressOf(this.url)
    const connector = undici().buildConnector({
      ...this.tls,
      allowH2: http2,
      ...(http2 && { preferH2: true, useH2c: !isTls(this.url) }),
      timeout: connectTimeoutMs,
      ...('path' in address && { socketPath: address.path }),
      ...(this.serverName && { servername: this.serverName }),
    })
    // A Unix domain socket has no origin.
    const origin = 'path' in address ? `${isTls(this.url) ? 'https' : 'http'}://localhost` : this.url.origin
    return new (undici().Pool)(origin, {
      headersTimeout: responseTimeoutMs,
      bodyTimeout: bodyTimeoutMs,
      keepAliveTimeout: keepAliveMs,
      keepAliveMaxTimeout: keepAliveMs,
      maxHeaderSize: maxHeaderBytes,
      pipelining: 1,
      allowH2: http2,
      connect: (options, callback) => {
        // Without a name of its own, undici would expect a certificate for the Host of the request.
        connector({ ...options, servername: '' }, (...[error, socket]) => {
          socket?.on('error', guard('a break of a connection', distinguishReset))
          if (error) callback(error, null)
          else callback(null, socket)
        })
      },
    })
  }
}

/** undici treats a reset as the end of a body delimited by connection close: half a response would look complete. */
function distinguishReset(error: NodeJS.ErrnoException): void {
  if (error.code === 'ECONNRESET') error.code = 'ECONNABORTED'
}
