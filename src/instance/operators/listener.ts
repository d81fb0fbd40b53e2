import cluster from 'node:cluster'
import { once } from 'node:events'
import type { IncomingMessage, Server } from 'node:http'
import { type AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { beforeListen } from '../../base/before-listen.ts'
import { FleetError } from '../../base/errors.ts'
import { closeListener } from '../../base/internals/cluster-handles.ts'
import { http } from '../../base/internals/node-http.ts'
import { bool, int, type OptionsOf, type Resolved, text } from '../../base/options.ts'
import { endConnection, guardConnections, StallGuard } from '../../base/socket-bounds.ts'

/** @internal */
export const listenOptions = {
  /** 0: any free port. @default `FLEET_ADMIN_PORT` */
  port: int(0, 65_535, 'a TCP port'),
  /** Address to listen on; in a container 0.0.0.0, on a network without clients. @default `FLEET_ADMIN_HOST`, else `127.0.0.1` */
  host: text.default('127.0.0.1'),
  /** Serve probes on the application's port as well. @default `FLEET_PUBLIC_PROBES`, else `false` */
  publicProbes: bool.default(false),
}
export type ListenOptions = OptionsOf<typeof listenOptions>

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Marks routes that the management listener serves, if there is one. */
    audience?: 'probes' | 'operators'
  }
}

/** Limits of the management listener, whose clients are few and near and send small requests. Times are in milliseconds. */
export const managementBounds = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 72_000,
  connectionsCheckingInterval: 5_000,
  maxHeaderSize: 16_384,
  maxConnections: 256,
  /** Time without progress after which a response is cut. */
  sendTimeoutMs: 60_000,
}
/** Time that responses have to finish when the listener closes, ms. */
const lastGraceMs = 500
/** Time that clients have, after a handover has closed the listener, to send a request and get its response, ms. */
const handoverGraceMs = 2_000

/** Connections of all management listeners of this process. */
const sockets = new WeakSet<Socket>()
let anyListener = false

/** Whether a request arrived on the management listener. It does not delay a drain and is never retried elsewhere. */
export const usesManagementListener = ({ socket }: IncomingMessage): boolean => anyListener && sockets.has(socket)

/**
 * A separate HTTP server for probes, metrics, operators' API and dashboard. Fastify routes its requests like all others,
 * and a hook rejects requests that arrive on the wrong listener. It starts before the application listens and closes
 * last, so operators and probes can observe a drain.
 */
export class ManagementListener {
  readonly #app: FastifyInstance
  readonly #options: { readonly port: number; readonly host: string; readonly publicProbes: boolean }
  readonly #server: Server
  #listening: Promise<void> | undefined
  /** Settles when the server and its last connection are closed; undefined until it listens. */
  #closed: Promise<unknown> | undefined
  /** Settles once requests that were on their way at a handover have their responses. */
  #handedOver: Promise<unknown> | undefined

  /** @throws FLEET_ERR_OPTION_INVALID without a port */
  constructor(app: FastifyInstance, { port, host, publicProbes }: Resolved<typeof listenOptions>) {
    if (port === undefined) {
      throw new FleetError('FLEET_ERR_OPTION_INVALID', '`operators.listen` needs a `port`, or FLEET_ADMIN_PORT')
    }
    this.#app = app
    this.#options = { port, host, publicProbes }
    this.#server = http.createServer(managementBounds, (request, response) => {
      if (this.#handedOver) response.shouldKeepAlive = false
      app.routing(request, response)
    })
    this.#server.maxConnections = managementBounds.maxConnections
    guardConnections(this.#server)
    const stalls = new StallGuard(managementBounds.sendTimeoutMs)
    this.#server.on('connection', (socket: Socket) => {
      sockets.add(socket)
      stalls.add(socket)
    })
    this.#server.on('connect', (_request: IncomingMessage, socket: Duplex) =>
      rejectSocket(socket, '405 Method Not Allowed'),
    )
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) =>
      rejectSocket(socket, statusOf(error)),
    )
    anyListener = true
    app.addHook('onRequest', (request, reply, done) => {
      const { audience } = request.routeOptions.config
      if (usesManagementListener(request.raw)) {
        // The application's own handler for unknown paths may serve anything, so it is not called.
        if (audience) done()
        else done(new FleetError('FLEET_ERR_ROUTE_UNKNOWN'))
      } else if (audience && !this.#isPublic(audience) && !isInjected(request.raw)) {
        reply.callNotFound()
      } else done()
    })
    beforeListen(
      app,
      () => this.listen(),
      () => this.#close(),
    )
    // For an app that listens in another way, and for plugins in an encapsulated scope.
    app.addHook('onListen', () => this.listen())
    app.addHook('onClose', () => this.#close())
  }

  /** Null while not listening. */
  get address(): AddressInfo | null {
    return this.#server.address() as AddressInfo | null
  }

  /** @throws FLEET_ERR_PORT_TAKEN, FLEET_ERR_OPTION_INVALID for an address that this machine does not have */
  listen(): Promise<void> {
    this.#listening ??= this.#listen()
    return this.#listening
  }

  #isPublic(audience: 'probes' | 'operators'): boolean {
    return audience === 'probes' && this.#options.publicProbes
  }

  async #listen(): Promise<void> {
    const { port, host } = this.#options
    this.#server.listen({ port, host })
    try {
      await once(this.#server, 'listening')
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException
      if (code === 'EADDRINUSE') {
        const detail = `${host}:${port}, for operators; choose another FLEET_ADMIN_PORT (\`operators.listen\`)`
        throw new FleetError('FLEET_ERR_PORT_TAKEN', detail, { cause })
      }
      const detail = `\`operators.listen\` (FLEET_ADMIN_HOST, FLEET_ADMIN_PORT) cannot be used: ${message}`
      throw new FleetError('FLEET_ERR_OPTION_INVALID', detail, { cause })
    }
    this.#closed = new Promise((resolve) => this.#server.once('close', resolve))
    this.#server.on('error', (err) => this.#app.log.error({ err }, 'management listener failed'))
    // The listener does not keep the process alive.
    this.#server.unref()
    this.#app.log.info({ address: this.address }, 'management listener serves probes and operators’ endpoints')
    this.#closeOnHandover()
  }

  /** Workers share the port. A replaced worker accepts no more connections, but still serves those it has. */
  #closeOnHandover(): void {
    const { fleet } = this.#app
    if (!cluster.isWorker || !this.#app.hasPlugin('fleet-lifecycle')) return
    const { shutdown } = fleet
    fleet.shutdown = (reason, options) => {
      if (options?.handover) this.#handedOver ??= this.#handOver()
      return shutdown(reason, options)
    }
    fleet.onDrained?.(async () => this.#handedOver)
  }

  async #handOver(): Promise<void> {
    // A request may be arriving on an idle connection, so these stay open.
    if (this.#server.listening) closeListener(this.#server)
    const timer = new AbortController()
    const late = delay(handoverGraceMs, undefined, { signal: timer.signal }).catch(() => undefined)
    await Promise.race([this.#closed, late])
    timer.abort()
  }

  async #close(): Promise<void> {
    await this.#listening?.catch(() => undefined)
    if (this.#closed === undefined) return
    // A replaced worker has closed the listener before, but may still have connections.
    if (this.#server.listening) this.#server.close()
    this.#server.closeIdleConnections()
    const timer = setTimeout(() => this.#server.closeAllConnections(), lastGraceMs)
    await this.#closed
    clearTimeout(timer)
    this.#listening = undefined
  }
}

/** Requests of `app.inject()` have no listener. */
export const isInjected = ({ socket }: IncomingMessage): boolean => !(socket instanceof Socket)

const statusOf = ({ code }: NodeJS.ErrnoException): string =>
  code === 'HPE_HEADER_OVERFLOW'
    ? '431 Request Header Fields Too Large'
    : code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? '408 Request Timeout'
      : '400 Bad Request'

function rejectSocket(socket: Duplex, status: string): void {
  if (socket.writable) endConnection(socket, `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
  else socket.destroy()
}
