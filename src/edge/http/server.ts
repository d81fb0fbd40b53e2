import { randomBytes } from 'node:crypto'
import type { EventEmitter } from 'node:events'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Http2SecureServer, ServerHttp2Stream } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { Http2Sessions } from '../../base/http2-sessions.ts'
import { persistenceLines } from '../../base/internals/plain-head.ts'
import { StallGuard } from '../../base/socket-bounds.ts'
import { Balancer } from '../balancer/balancer.ts'
import type { Exchange } from '../balancer/exchange.ts'
import type { Target } from '../balancer/target.ts'
import { caught, destroyStreams, guard } from '../boundary.ts'
import type { TunnelBounds } from '../join.ts'
import { type ListenOptions, listen } from '../listen.ts'
import { Admin } from './admin.ts'
import { Admission, type Call, invalid, refusedMethod } from './admission.ts'
import { type ClientError, fromClientError, isAnswerable } from './client-error.ts'
import { asFleetError } from './error-page.ts'
import { ProxyMetrics } from './metrics.ts'
import { createProxyServer, effectiveHeadersTimeoutMs, isHttp2, isWebSocket } from './node-server.ts'
import { type ProxyOptions, type ResolvedProxyOptions, resolveProxyOptions } from './options.ts'
import { Origins } from './origins.ts'
import { limitBodyTime, streamed, whole } from './request-body.ts'
import { breakOff, ClientResponse, type ResponseContext, sendError } from './response.ts'
import type { ReverseProxy } from './reverse-proxy.ts'
import { streamClient, Tunnel, type TunnelClient, upgradedClient, writeRaw } from './tunnel.ts'

export type { ProxyOptions } from './options.ts'
export type { ReverseProxy } from './reverse-proxy.ts'

/**
 * An HTTP reverse proxy over the balancer: HTTP/1.1, with `tls` HTTP/2 too, WebSockets, streams both ways.
 *
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID, FLEET_ERR_TARGET_INVALID, and what {@link Balancer} throws
 */
export function createProxy(options: ProxyOptions): ReverseProxy {
  const { targets, proxy, balancer } = resolveProxyOptions(options)
  return new HttpProxy(proxy, new Balancer(targets, balancer))
}

/** How often connections are looked at that may have turned idle while the proxy closes, in milliseconds. */
const sweepEveryMs = 50

class HttpProxy implements ReverseProxy, ResponseContext {
  readonly balancer: Balancer
  readonly server: Server | Http2SecureServer
  readonly sendTimeoutMs: number
  readonly persistence: string
  readonly #options: ResolvedProxyOptions
  readonly #admission: Admission
  readonly #tunnels = new Set<Duplex>()
  /** Sockets that have left Node's HTTP server: it does not end them any more. */
  readonly #detached = new Set<Duplex>()
  readonly #refused = new WeakSet<Duplex>()
  readonly #sessions: Http2Sessions
  readonly #tunnelBounds: TunnelBounds
  readonly #origins: Origins
  readonly #metrics = new ProxyMetrics()
  readonly #admin: Admin | undefined
  adminUrl: string | undefined
  #inflight = 0
  #closing: Promise<void> | undefined

  constructor(options: ResolvedProxyOptions, balancer: Balancer) {
    this.#options = options
    this.#origins = new Origins(options.trustProxy, 'proxy.trustProxy')
    this.#admission = new Admission(this.#origins, options)
    const stalls = new StallGuard(options.sendTimeoutMs)
    this.#tunnelBounds = { idleTimeoutMs: options.tunnelTimeoutMs, stalls }
    this.#sessions = new Http2Sessions({
      headersTimeoutMs: effectiveHeadersTimeoutMs(options),
      idleTimeoutMs: options.keepAliveMs,
      // The proxy answers late requests itself; see limitBodyTime().
      requestTimeoutMs: 0,
      sendTimeoutMs: options.sendTimeoutMs,
      maxHeaderBytes: options.maxHeaderBytes,
      maxRequests: options.maxRequestsPerConnection,
      maxConcurrentStreams: options.maxConcurrentStreams,
    })
    this.sendTimeoutMs = options.sendTimeoutMs
    this.persistence = persistenceLines(options.keepAliveMs)
    this.balancer = balancer
    const token = options.admin?.token ?? readEnv().FLEET_ADMIN_TOKEN
    const admin = options.admin && { ...options.admin, token }
    this.#admin =
      admin &&
      new Admin(
        admin,
        balancer,
        () => this.metrics(),
        () => this.closing,
      )
    const block = 65_536 + 4 * balancer.options.connections.maxHeaderBytes
    this.server = createProxyServer(options, block, (request, response) => this.#receive(request, response))
    this.#on('checkContinue', (request: IncomingMessage, response: ServerResponse) =>
      this.#receive(request, response, true),
    )
    this.#on('checkExpectation', (request: IncomingMessage, response: ServerResponse) =>
      sendError(request, response, invalid('Expect')),
    )
    this.#on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) =>
      this.#upgrade(request, socket, head),
    )
    this.#on('connect', (request: IncomingMessage, other: Duplex | ServerResponse) => this.#connect(request, other))
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
    return this.balancer.targets
  }

  async listen(options: ListenOptions = {}): Promise<string> {
    await this.balancer.ready()
    this.adminUrl = await this.#admin?.listen()
    return `${this.#options.tls ? 'https' : 'http'}://${await listen(this.server, options)}`
  }

  metrics(): string {
    return this.#metrics.text(this.balancer, this.#inflight, this.#tunnels.size)
  }

  close(): Promise<void> {
    this.#closing ??= this.#drain()
    return this.#closing
  }

  async #drain(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve))
    this.#sessions.close()
    // A connection that turns idle after close() would hold it until its idle time is over: hence again and again.
    const closeIdle = guard('a shutdown', () => {
      if ('closeIdleConnections' in this.server) this.server.closeIdleConnections()
      if (this.#inflight === 0) for (const socket of this.#tunnels) socket.end()
    })
    const sweep = setInterval(closeIdle, sweepEveryMs)
    const cut = guard('the end of a shutdown', () => this.#cut())
    const deadline = setTimeout(cut, this.#options.shutdownTimeoutMs)
    await closed
    clearInterval(sweep)
    clearTimeout(deadline)
    this.#admin?.close()
    await this.balancer.close()
  }

  #cut(): void {
    if ('closeAllConnections' in this.server) this.server.closeAllConnections()
    this.#sessions.destroy()
    for (const socket of this.#detached) socket.destroy()
  }

  /** @param listener an exception in it ends the connection that it belongs to, which is among its arguments */
  #on<A extends unknown[]>(event: string, listener: (...args: A) => void): void {
    const server: EventEmitter = this.server
    server.on(event, guard(`the event ${event} of the proxy`, listener, destroyStreams))
  }

  #receive(request: IncomingMessage, response: ServerResponse, expectsContinue = false): void {
    try {
      this.#serve(request, response, expectsContinue)
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

  #serve(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void {
    const origin = this.#origins.of(request.socket)
    const startedAt = performance.now()
    let exchange: Exchange | undefined
    this.#inflight++
    origin.inflight++
    origin.answering = response
    // A client that has gone makes what is written an error of the response, which is of no interest.
    response.on('error', ignore)
    response.on('close', () => {
      try {
        this.#inflight--
        origin.inflight--
        if (origin.answering === response) origin.answering = undefined
        this.#metrics.answered(response.headersSent ? response.statusCode : 0, performance.now() - startedAt)
        if (exchange?.done === false) exchange.abort(left())
      } catch (error) {
        caught('the end of a request', error)
      }
    })
    const call = this.#admission.admit(request, origin)
    if (call instanceof FleetError) {
      if (!isHttp2(request)) response.shouldKeepAlive &&= !endsConnection.has(call.code)
      sendError(request, response, call)
      return
    }
    if (call.length === 0) {
      exchange = this.#send(call, null, request, response)
      return
    }
    if (isHttp2(request)) {
      const late = new FleetError('FLEET_ERR_REQUEST_TIMEOUT')
      limitBodyTime(request, response, this.#options.requestTimeoutMs, () => exchange?.abort(late))
    }
    const proceed = (): void => {
      if (expectsContinue) response.writeContinue()
    }
    if (call.length > this.#options.bufferBytes) {
      const body = streamed(request, this.#options.maxBodyBytes, proceed)
      exchange = this.#send(call, body, request, response)
      return
    }
    proceed()
    const send = (body: Buffer): void => {
      // It came after its deadline.
      if (response.writableEnded) return
      exchange = this.#send(call, body, request, response)
    }
    whole(request, send, (error) => this.#crashed(request, response, error))
  }

  #send(
    { options, input }: Call,
    body: Buffer | AsyncIterable<Buffer> | null,
    request: IncomingMessage,
    response: ServerResponse,
  ): Exchange {
    const answer = new ClientResponse(this, request, response, input)
    // undici takes any async iterable, though its types do not say so; and closes the connection after a HEAD unless
    // told not to reset it.
    return this.balancer.dispatch({ ...options, body: body as Buffer | null, reset: false }, answer, input)
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#detach(socket)
    const call = this.#admission.admit(request, this.#origins.of(request.socket))
    if (call instanceof FleetError || call.length > 0 || !isWebSocket(request)) {
      writeRaw(socket, call instanceof FleetError ? call : invalid('Upgrade'), request.headers.accept)
      return
    }
    this.#tunnel(call, upgradedClient(request, socket), head)
  }

  /** Of CONNECT only the kind that carries a WebSocket over HTTP/2 is wanted; upstream it is an upgrade like any other. */
  #connect(request: IncomingMessage, other: Duplex | ServerResponse): void {
    const { headers, rawHeaders, url, httpVersion, httpVersionMajor } = request
    if (!isHttp2(request)) {
      this.#detach(other as Duplex)
      const version = httpVersionMajor === 1 ? undefined : new FleetError('FLEET_ERR_VERSION_UNSUPPORTED')
      writeRaw(other as Duplex, version ?? refusedMethod(), headers.accept)
      return
    }
    const stream = (request as unknown as { stream: ServerHttp2Stream }).stream
    const client = streamClient(request, stream)
    const asked = { method: 'GET', url, headers, rawHeaders, httpVersion, httpVersionMajor, stream }
    const websocket = headers[':protocol'] === 'websocket'
    const call = websocket ? this.#admission.admit(asked as never, this.#origins.of(request.socket)) : refusedMethod()
    if (call instanceof FleetError) {
      client.failed(call)
      return
    }
    const key = ['sec-websocket-key', randomBytes(16).toString('base64')]
    const options = { ...call.options, headers: [...(call.options.headers as string[]), ...key] }
    this.#tunnel({ ...call, options }, client, Buffer.alloc(0))
  }

  #tunnel({ options, input }: Call, client: TunnelClient, head: Buffer): void {
    const tunnel = new Tunnel(client, head, this.#tunnels, this.#tunnelBounds)
    const exchange = this.balancer.dispatch({ ...options, upgrade: 'websocket' }, tunnel, input)
    client.socket.once(
      'close',
      guard('the end of a tunnel', () => exchange.abort(left())),
    )
  }

  #detach(socket: Duplex): void {
    this.#detached.add(socket)
    socket.once('close', () => this.#detached.delete(socket))
  }

  /** What is not HTTP, too large or too slow. Where a response is being written already, no other one can be sent. */
  #onClientError(error: ClientError, socket: Duplex): void {
    // The rest of what it sends is no better, and is discarded.
    if (this.#refused.has(socket)) return
    this.#refused.add(socket)
    if (!socket.writable || !isAnswerable(error)) socket.destroy()
    else if (this.#origins.of(socket as Socket).answering?.headersSent) (socket as Socket).destroySoon()
    else writeRaw(socket, fromClientError(error))
  }
}

const ignore = (): void => {}

const left = (): FleetError => invalid('the client went away')

/** After these the rest of what the client sends is not worth reading. */
const endsConnection: ReadonlySet<string> = new Set(['FLEET_ERR_PIPELINE_LIMIT', 'FLEET_ERR_HEADERS_TOO_LARGE'])
