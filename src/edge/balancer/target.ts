import { createHash } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import type { Dispatcher, Pool } from 'undici'
import { FleetError } from '../../base/errors.ts'
import { undici } from '../../base/internals/undici.ts'
import { guard } from '../boundary.ts'
import { WirePool } from '../http/wire/pool.ts'
import { PeakEwma } from './peak-ewma.ts'
import { withRetryHeader } from './retry-rules.ts'

export interface TargetOptions {
  /** `http://host:port` or `https://host:port`; for the TCP proxy `tcp://host:port`. No path. */
  url: string
  /** Share of traffic relative to the other targets, 0 to 1000; with 0 it receives none. @default 100 */
  weight?: number
  /** Used only while no primary target can accept a request. @default false */
  backup?: boolean
  /** Requests (layer 4: connections) in flight at once; further ones wait in the queue. 0: no limit. @default 0 */
  maxConnections?: number
  /** @default a hash of the URL, which identifies the target without exposing its address */
  id?: string
  /** Name that the certificate of an `https` target must be valid for. @default the host in its URL */
  serverName?: string
  region?: string
  zone?: string
}

/**
 * `unproven`: not probed yet · `up`: in rotation · `draining`: serves, but receives no new work · `down`: failed its
 * probes or refused a connection · `ejected`: removed as an outlier (see outliers.ts).
 */
export type TargetState = 'unproven' | 'up' | 'draining' | 'down' | 'ejected'

/** Bounds of the upstream connections, in milliseconds and bytes. */
export interface ConnectionOptions {
  /** @default 2000 */
  connectTimeoutMs: number
  /** From the request until the response headers. @default 60000 */
  responseTimeoutMs: number
  /** Between two chunks of a response body; 0: no limit. @default 300000 */
  bodyTimeoutMs: number
  /**
   * An idle connection is not reused after this time. It must be shorter than the upstream's keep-alive timeout, or
   * requests are sent on connections that are just being closed: Node's default is 5 s, Fastify's 72 s. @default 4000
   */
  keepAliveMs: number
  /**
   * The same for requests that must not be sent twice. A draining instance closes connections that were idle for 250 ms.
   * A request written to one at that moment is lost and could not be retried. A new connection is refused instead, and
   * the request goes to another target. @default 150
   */
  unsafeKeepAliveMs: number
  /** Largest header block of a response. @default 32768 */
  maxHeaderBytes: number
}

/** A request to an upstream. */
export interface UpstreamRequest extends Dispatcher.DispatchOptions {
  /** Method, path and headers come from a parser and need no validation; headers are a flat list or lines. */
  wellFormed?: boolean
}

/** One upstream: its address, its state and the connections to it. Only {@link Rotation} changes the state. */
export class Target {
  readonly id: string
  readonly url: URL
  readonly backup: boolean
  readonly maxConnections: number
  readonly region?: string
  readonly zone?: string
  readonly serverName?: string
  weight: number
  state: TargetState = 'unproven'
  /** Monotonic milliseconds at which the state changed last. */
  since: number = performance.now()
  inflight = 0
  /** Monotonic milliseconds at which slow start began; undefined after it has ended. */
  warmFrom: number | undefined
  /** Back from an ejection (circuit breaker half-open): one request at a time. */
  onTrial = false
  /** The latest response was a failure. */
  failing = false
  served = 0
  failed = 0
  /**
   * Milliseconds until the response headers. It decays faster than Finagle's 10 s: one stall of this process makes all
   * targets look slow, and until that has decayed a slow target cannot be distinguished from the others.
   */
  readonly latency: PeakEwma = new PeakEwma(3000)
  readonly #connections: ConnectionOptions
  readonly #pools: { safe?: Pool; unsafe?: Pool } = {}
  readonly #wires: { safe?: WirePool; unsafe?: WirePool } = {}

  constructor(options: TargetOptions, connections: ConnectionOptions) {
    this.url = parseTarget(options.url)
    this.id = options.id ?? createHash('sha256').update(this.url.href).digest('hex').slice(0, 12)
    this.weight = options.weight ?? 100
    this.backup = options.backup ?? false
    this.maxConnections = options.maxConnections ?? 0
    this.region = options.region
    this.zone = options.zone
    this.serverName = options.serverName
    this.#connections = connections
  }

  get full(): boolean {
    if (this.onTrial) return this.inflight > 0
    return this.maxConnections > 0 && this.inflight >= this.maxConnections
  }

  /**
   * Sends a request. A plain one uses our own connections; streams, upgrades and TLS, and requests that still need
   * validation, use undici.
   *
   * @param handler with `rejectable`, a draining target is asked to reject the request
   * @param repeatable see {@link Target.pool}
   */
  send(
    options: UpstreamRequest,
    handler: Dispatcher.DispatchHandler & { rejectable: boolean },
    repeatable: boolean,
  ): void {
    const { method, path, headers, body = null, upgrade, wellFormed } = options
    if (wellFormed && !upgrade && this.url.protocol === 'http:' && (body === null || Buffer.isBuffer(body))) {
      const request = { method, path, headers: headers as string[], body, rejectable: handler.rejectable }
      this.#wire(repeatable).dispatch(request, handler)
    } else this.pool(repeatable).dispatch(handler.rejectable ? withRetryHeader(options) : options, handler)
  }

  /** @param repeatable whether a request may be sent again when its connection turns out to be dead */
  pool(repeatable: boolean): Pool {
    if (repeatable) {
      this.#pools.safe ??= this.#connect(this.#connections.keepAliveMs)
      return this.#pools.safe
    }
    this.#pools.unsafe ??= this.#connect(this.#connections.unsafeKeepAliveMs)
    return this.#pools.unsafe
  }

  /**
   * Closes idle connections; those in use close after their requests. A draining instance closes its idle connections
   * soon, and a request written to one at that moment would be lost.
   */
  async disconnect(): Promise<void> {
    const closing = [this.#pools.safe, this.#pools.unsafe, this.#wires.safe, this.#wires.unsafe]
    for (const pools of [this.#pools, this.#wires]) Object.assign(pools, { safe: undefined, unsafe: undefined })
    // An error while closing still closes the connection.
    await Promise.allSettled(closing.map((pool) => pool?.close()))
  }

  #wire(repeatable: boolean): WirePool {
    if (repeatable) {
      this.#wires.safe ??= new WirePool({ ...this.#connections, ...addressOf(this.url) })
      return this.#wires.safe
    }
    const keepAliveMs = this.#connections.unsafeKeepAliveMs
    this.#wires.unsafe ??= new WirePool({ ...this.#connections, ...addressOf(this.url), keepAliveMs })
    return this.#wires.unsafe
  }

  #connect(keepAliveMs: number): Pool {
    const { connectTimeoutMs, responseTimeoutMs, bodyTimeoutMs, maxHeaderBytes } = this.#connections
    const connector = undici().buildConnector({
      allowH2: false,
      timeout: connectTimeoutMs,
      ...(this.serverName && { servername: this.serverName }),
    })
    return new (undici().Pool)(this.url.origin, {
      headersTimeout: responseTimeoutMs,
      bodyTimeout: bodyTimeoutMs,
      keepAliveTimeout: keepAliveMs,
      keepAliveMaxTimeout: keepAliveMs,
      maxHeaderSize: maxHeaderBytes,
      pipelining: 1,
      allowH2: false,
      connect: (options, callback) => {
        connector(options, (...[error, socket]) => {
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

/** Host and port for `net.connect`. */
export function addressOf({ protocol, hostname, port }: URL): { host: string; port: number } {
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) || (protocol === 'https:' ? 443 : 80) }
}

/** @throws FLEET_ERR_TARGET_INVALID */
export function parseTarget(text: string | undefined): URL {
  const url = URL.parse(text ?? '')
  const schemes = ['http:', 'https:', 'tcp:']
  const port = url?.protocol !== 'tcp:' || url.port !== ''
  if (url && schemes.includes(url.protocol) && url.hostname && port && !url.username && /^\/?$/.test(url.pathname)) {
    if (url.search === '' && url.hash === '') return url
  }
  throw new FleetError(
    'FLEET_ERR_TARGET_INVALID',
    `${JSON.stringify(text?.slice(0, 100))} must be http://host:port, https://host:port or tcp://host:port, without a path`,
  )
}
