// How a request passes through the proxy:
//
// 1. `node-server.ts`: Node parses it, within the bounds of the options. `client-error.ts` responds to what is not HTTP.
// 2. `server.ts`, `HttpProxy` below: counts it and calls the steps below, each of which can end it with an error response
//    (`error-page.ts`).
// 3. `admission.ts`: rejects what an upstream could read in another way, and blocked paths (`paths.ts`). `origins.ts`
//    determines the client's address.
// 4. `headers.ts`: the headers for the upstream. `request-body.ts`: the body, whole or streamed.
// 5. `../balancer/exchange.ts`: chooses a target, and another one when an attempt fails and may be repeated.
// 6. `../balancer/attempt.ts`: one request to one target, over `wire/` (WebSockets: undici).
// 7. `response.ts`: writes the target's response to the client, with `http2-fields.ts`, `informational.ts` and
//    `trailers.ts`.
//
// WebSockets take steps 3 to 6 from `tunnels.ts` and continue in `tunnel.ts`. `admin.ts` and `metrics.ts` are for operators.

import type { EventEmitter } from 'node:events'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Http2SecureServer } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { Http2Sessions } from '../../base/http2-sessions.ts'
import { persistenceLines } from '../../base/internals/plain-head.ts'
import { StallGuard } from '../../base/socket-bounds.ts'
import type { Balancer } from '../balancer/balancer.ts'
import type { Exchange } from '../balancer/exchange.ts'
import type { Target } from '../balancer/target.ts'
import { caught, destroyStreams, guard } from '../boundary.ts'
import { type ListenOptions, listen } from '../listen.ts'
import { Admin } from './admin.ts'
import { Admission, type AdmittedRequest, clientGone, invalid } from './admission.ts'
import { type ClientError, fromClientError, isRespondable } from './client-error.ts'
import { asFleetError } from './error-page.ts'
import { metricsText } from './metrics.ts'
import { createProxyServer, effectiveHeadersTimeoutMs, isHttp2 } from './node-server.ts'
import { type ProxyOptions, type ResolvedProxyOptions, resolveProxyOptions } from './options.ts'
import { Origins } from './origins.ts'
import { Pools, type ProxyPool } from './pools.ts'
import { limitBodyTime, readWhole, streamBody } from './request-body.ts'
import { breakOff, ClientResponse, type ResponseContext, sendError } from './response.ts'
import type { ReverseProxy } from './reverse-proxy.ts'
import { writeRaw } from './tunnel.ts'
import { Tunnels } from './tunnels.ts'

export type { ProxyOptions } from './options.ts'
export type { PoolOptions } from './pool-options.ts'
export type { ProxyPool } from './pools.ts'
export type { ReverseProxy } from './reverse-proxy.ts'
export type { Route } from './routes.ts'

/**
 * An HTTP reverse proxy over the balancer: HTTP/1.1, with `tls` also HTTP/2, WebSockets, streams in both directions.
 *
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID, FLEET_ERR_TARGET_INVALID, and the errors of {@link Balancer}
 */
export function createProxy(options: ProxyOptions): ReverseProxy {
  const resolved = resolveProxyOptions(options)
  const pools = new Pools(resolved.pools, resolved.router)
  try {
    return new HttpProxy(resolved.proxy, pools)
  } catch (error) {
    void pools.close()
    throw error
  }
}

/** Interval at which idle connections are closed while the proxy shuts down, in milliseconds. */
const sweepEveryMs = 50

class HttpProxy implements ReverseProxy, ResponseContext {
  readonly pools: ReadonlyMap<string, ProxyPool>
  readonly balancer: Balancer
  readonly server: Server | Http2SecureServer
  readonly sendTimeoutMs: number
  readonly persistence: string
  readonly #options: ResolvedProxyOptions
  readonly #admission: Admission
  readonly #tunnels: Tunnels
  /** Sockets that have received an error response; the rest of what they send is discarded. */
  readonly #rejected = new WeakSet<Duplex>()
  readonly #sessions: Http2Sessions
  readonly #origins: Origins
  readonly #pools: Pools
  readonly #admin: Admin | undefined
  adminUrl: string | undefined
  #inflight = 0
  #closing: Promise<void> | undefined

  constructor(options: ResolvedProxyOptions, pools: Pools) {
    this.#options = options
    this.#pools = pools
    this.pools = pools.byName
    this.balancer = pools.default.balancer
    this.#origins = new Origins(options.trustProxy, 'proxy.trustProxy')
    this.#admission = new Admission(this.#origins, options, pools)
    const stalls = new StallGuard(options.sendTimeoutMs)
    const bounds = { idleTimeoutMs: options.tunnelTimeoutMs, stalls }
    this.#tunnels = new Tunnels(this.#admission, this.#origins, bounds)
    this.#sessions = new Http2Sessions({
      headersTimeoutMs: effectiveHeadersTimeoutMs(options),
      idleTimeoutMs: options.keepAliveMs,
      // The proxy itself responds to late requests; see limitBodyTime().
      requestTimeoutMs: 0,
      sendTimeoutMs: options.sendTimeoutMs,
      maxHeaderBytes: options.maxHeaderBytes,
      maxRequests: options.maxRequestsPerConnection,
      maxConcurrentStreams: options.maxConcurrentStreams,
    })
    this.sendTimeoutMs = options.sendTimeoutMs
    this.persistence = persistenceLines(options.keepAliveMs)
    const token = options.admin?.token ?? readEnv().FLEET_ADMIN_TOKEN
    const admin = options.admin && { ...options.admin, token }
    this.#admin = admin && new Admin(admin, pools, this)
    const block = 65_536 + 4 * Math.max(...pools.all.map(({ balancer }) => balancer.options.connections.maxHeaderBytes))
    this.server = createProxyServer(options, block, (request, response) => this.#receive(request, response))
    this.#on('checkContinue', (request: IncomingMessage, response: ServerResponse) =>
      this.#receive(request, response, true),
    )
    this.#on('checkExpectation', (request: IncomingMessage, response: ServerResponse) =>
      sendError(request, response, invalid('Expect')),
    )
    this.#on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) =>
      this.#tunnels.upgrade(request, socket, head),
    )
    this.#on('connect', (request: IncomingMessage, other: Duplex | ServerResponse) =>
      this.#tunnels.connect(request, other),
    )
    this.#on('clientError', (error: ClientError, socket: Duplex) => this.#onClientError(error, socket))
    this.#on(options.tls ? 'secureConnection' : 'connection', (socket: Socket) => stalls.add(socket))
    if (options.tls) this.#sessions.watch(this.server as Http2SecureServer)
  }

  get closing(): boolean {
    return this.#closing !== undefined
  }

  get address(): AddressInfo | null {
    return this.server.address() as AddressInfo | null
  }

  get targets(): readonly Target[] {
    return this.#pools.targets
  }

  async listen(options: ListenOptions = {}): Promise<string> {
    await this.#pools.ready()
    this.adminUrl = await this.#admin?.listen()
    return `${this.#options.tls ? 'https' : 'http'}://${await listen(this.server, options)}`
  }

  metrics(): string {
    return metricsText(this.#pools, this.#inflight, this.#tunnels.size)
  }

  close(): Promise<void> {
    this.#closing ??= this.#drain()
    return this.#closing
  }

  async #drain(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve))
    this.#sessions.close()
    // server.close() closes only the connections that are idle now. Those that become idle later would stay open for the
    // whole keep-alive time, so they are closed repeatedly.
    const closeIdle = guard('a shutdown', () => {
      if ('closeIdleConnections' in this.server) this.server.closeIdleConnections()
      if (this.#inflight === 0) this.#tunnels.end()
    })
    const sweep = setInterval(closeIdle, sweepEveryMs)
    const cut = guard('the end of a shutdown', () => this.#cut())
    const deadline = setTimeout(cut, this.#options.shutdownTimeoutMs)
    await closed
    clearInterval(sweep)
    clearTimeout(deadline)
    this.#admin?.close()
    await this.#pools.close()
  }

  #cut(): void {
    if ('closeAllConnections' in this.server) this.server.closeAllConnections()
    this.#sessions.destroy()
    this.#tunnels.destroy()
  }

  /** @param listener when it throws, the connections among its arguments are destroyed */
  #on<A extends unknown[]>(event: string, listener: (...args: A) => void): void {
    const server: EventEmitter = this.server
    server.on(event, guard(`the event ${event} of the proxy`, listener, destroyStreams))
  }

  #receive(request: IncomingMessage, response: ServerResponse, expectsContinue = false): void {
    try {
      this.#handle(request, response, expectsContinue)
    } catch (error) {
      this.#crashed(request, response, error)
    }
  }

  #crashed(request: IncomingMessage, response: ServerResponse, thrown: unknown): void {
    caught('the handling of a request', thrown, (error) => {
      if (response.headersSent) breakOff(request, response)
      else sendError(request, response, asFleetError(error))
    })
  }

  #handle(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void {
    const origin = this.#origins.of(request.socket)
    const startedAt = performance.now()
    let times = this.#pools.unrouted
    let exchange: Exchange | undefined
    let closed = false
    this.#inflight++
    origin.inflight++
    origin.responding = response
    // Writing to a client that has disconnected emits an error, which needs no handling.
    response.on('error', ignore)
    response.on('close', () => {
      try {
        closed = true
        this.#inflight--
        origin.inflight--
        if (origin.responding === response) origin.responding = undefined
        times.observe(response.headersSent ? response.statusCode : 0, performance.now() - startedAt)
        if (exchange?.done === false) exchange.abort(clientGone())
      } catch (error) {
        caught('the end of a request', error)
      }
    })
    // Node would announce a persistent connection and reject the next request.
    if (++origin.requests === this.#options.maxRequestsPerConnection && !isHttp2(request))
      response.shouldKeepAlive = false
    const admitted = this.#admission.admit(request, origin)
    if (admitted instanceof FleetError) {
      if (!isHttp2(request)) response.shouldKeepAlive &&= !endsConnection.has(admitted.code)
      sendError(request, response, admitted)
      return
    }
    const { pool } = admitted
    times = pool.times
    const rejection = pool.rejects(admitted.length)
    if (rejection) {
      sendError(request, response, rejection)
      return
    }
    if (admitted.length === 0) {
      exchange = this.#send(admitted, null, request, response)
      return
    }
    if (isHttp2(request)) {
      const late = new FleetError('FLEET_ERR_REQUEST_TIMEOUT')
      limitBodyTime(request, response, this.#options.requestTimeoutMs, () => exchange?.abort(late))
    }
    const proceed = (): void => {
      if (expectsContinue) response.writeContinue()
    }
    if (admitted.length > this.#options.bufferBytes) {
      const body = streamBody(request, pool.maxBodyBytes, proceed)
      exchange = this.#send(admitted, body, request, response)
      return
    }
    proceed()
    const send = (body: Buffer): void => {
      // The body was complete only after its deadline, or the client reset an HTTP/2 stream, after which Node ends the body.
      if (response.writableEnded || closed) return
      exchange = this.#send(admitted, body, request, response)
    }
    readWhole(request, send, (error) => this.#crashed(request, response, error))
  }

  #send(
    { pool, options, input }: AdmittedRequest,
    body: Buffer | AsyncIterable<Buffer> | null,
    request: IncomingMessage,
    response: ServerResponse,
  ): Exchange {
    const client = new ClientResponse(this, request, response, input)
    return pool.balancer.dispatch({ ...options, body: body as Buffer | null }, client, input)
  }

  /** A request that is not HTTP, too large or too slow. While another response is being written, no error can be sent. */
  #onClientError(error: ClientError, socket: Duplex): void {
    if (this.#rejected.has(socket)) return
    this.#rejected.add(socket)
    if (!socket.writable || !isRespondable(error)) socket.destroy()
    else if (this.#origins.of(socket as Socket).responding?.headersSent) (socket as Socket).destroySoon()
    else writeRaw(socket, fromClientError(error))
  }
}

const ignore = (): void => {}

/** Errors after which the connection is closed: the rest of what the client sends is not read. */
const endsConnection: ReadonlySet<string> = new Set(['FLEET_ERR_PIPELINE_LIMIT', 'FLEET_ERR_HEADERS_TOO_LARGE'])
