import cluster from 'node:cluster'
import { once } from 'node:events'
import type { IncomingMessage, Server } from 'node:http'
import { type AddressInfo, Socket, Server as TcpServer } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { FleetError } from '../../base/errors.ts'
import { routeOf } from '../../base/internals/fastify.ts'
import { http } from '../../base/internals/node-http.ts'
import { guardConnections } from '../../base/socket-bounds.ts'

export interface ListenOptions {
  /** 0 to 65535; 0: any free one. @default FLEET_ADMIN_PORT */
  port?: number
  /** Address to listen on; in a container 0.0.0.0, on a network that no client reaches. @default FLEET_ADMIN_HOST, else '127.0.0.1' */
  host?: string
  /** `/live`, `/ready` and `/health` on the application's port as well. @default FLEET_PUBLIC_PROBES, else false */
  publicProbes?: boolean
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Which routes of this package are served by the management listener, where there is one. */
    audience?: 'probes' | 'operators'
  }
}

/** The bounds of the management listener. Those who use it are few and near, and what they ask for is small. */
const bounds = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 72_000,
  connectionsCheckingInterval: 5_000,
  maxHeaderSize: 16_384,
} as const
const mostConnections = 256
/** A response that the client does not read is given up after this, ms. */
const stalledAfterMs = 60_000
/** What responses get to end when the listener closes, ms. */
const lastGraceMs = 500

/** Connections of all management listeners of this process. */
const sockets = new WeakSet<Socket>()
let anyListener = false

/** Whether a request came by the management listener: it holds up no drain, and is never sent elsewhere. */
export const cameByManagement = ({ socket }: IncomingMessage): boolean => anyListener && sockets.has(socket)

/**
 * An HTTP server of its own for probes, metrics, operators' API and dashboard. Its requests take the same way through
 * Fastify as all others, and one hook sees to it that each route is served by the right listener. It starts before the
 * application listens, and closes when everything else has: operators and probes see an instance drain.
 */
export class ManagementListener {
  readonly #app: FastifyInstance
  readonly #options: ListenOptions & { port: number; host: string }
  readonly #server: Server
  #listening: Promise<void> | undefined
  /** Settles when it has stopped listening and its last connection has ended; undefined until it listens. */
  #closed: Promise<unknown> | undefined

  /** @throws FLEET_ERR_OPTION_INVALID without a port */
  constructor(app: FastifyInstance, { port, host = '127.0.0.1', publicProbes = false }: ListenOptions) {
    if (port === undefined) {
      throw new FleetError('FLEET_ERR_OPTION_INVALID', '`operators.listen` needs a `port`, or FLEET_ADMIN_PORT')
    }
    this.#app = app
    this.#options = { port, host, publicProbes }
    this.#server = http.createServer(bounds, (request, response) => app.routing(request, response))
    this.#server.maxConnections = mostConnections
    guardConnections(this.#server)
    this.#server.setTimeout(stalledAfterMs)
    this.#server.on('connection', (socket: Socket) => {
      sockets.add(socket)
    })
    this.#server.on('connect', (_request: IncomingMessage, socket: Duplex) => refuse(socket, '405 Method Not Allowed'))
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => refuse(socket, statusOf(error)))
    anyListener = true
    app.addHook('onRequest', (request, reply, done) => {
      const { audience } = routeOf(request)
      if (cameByManagement(request.raw)) {
        // Not the application's own handler for unknown paths, which may serve whatever it likes.
        if (audience) done()
        else done(new FleetError('FLEET_ERR_ROUTE_UNKNOWN'))
      } else if (audience && !this.#isPublic(audience) && !isInjected(request)) {
        reply.callNotFound()
      } else done()
    })
    this.#listenBeforeApp()
    app.addHook('onClose', () => this.#close())
  }

  /** Null while it does not listen. */
  get address(): AddressInfo | null {
    return this.#server.address() as AddressInfo | null
  }

  /** @throws FLEET_ERR_PORT_TAKEN, FLEET_ERR_OPTION_INVALID for an address that this machine does not have */
  listen(): Promise<void> {
    this.#listening ??= this.#listen()
    return this.#listening
  }

  #isPublic(audience: 'probes' | 'operators'): boolean {
    return audience === 'probes' && this.#options.publicProbes === true
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
    this.#server.on('error', (err) => this.#app.log.error({ err }, 'the management listener failed'))
    // It keeps no process alive that has nothing else to do.
    this.#server.unref()
    this.#app.log.info({ address: this.address }, 'management listener: probes and operators’ endpoints')
    this.#leaveToOthers()
  }

  /** Workers share the port. One that is replaced takes no more connections, while it can still answer those it has. */
  #leaveToOthers(): void {
    const { fleet } = this.#app
    if (!cluster.isWorker || !this.#app.hasPlugin('fleet-lifecycle')) return
    const { shutdown } = fleet
    fleet.shutdown = (reason, options) => {
      // Not `close()` of an HTTP server, which also destroys the idle connections, on which a request may be coming.
      if (options?.handover && this.#server.listening) TcpServer.prototype.close.call(this.#server)
      return shutdown(reason, options)
    }
  }

  /** An app that is only injected into does not listen, and needs no listener for operators. */
  #listenBeforeApp(): void {
    const app = this.#app
    const listen = app.listen as (...args: unknown[]) => unknown
    const later = async (args: unknown[]): Promise<unknown> => {
      // A failed start is `listen`'s to report.
      const isReady = await app.ready().then(
        () => true,
        () => false,
      )
      if (isReady) await this.listen()
      try {
        return await listen.apply(app, args)
      } catch (error) {
        await this.#close()
        throw error
      }
    }
    app.listen = ((...args: unknown[]) => {
      const callback = args.at(-1)
      const listening = later(args)
      if (typeof callback !== 'function') return listening
      listening.catch((error: unknown) => callback(error, ''))
    }) as typeof app.listen
    // For an app that listens by other means, and for plugins inside an encapsulated scope.
    app.addHook('onListen', () => this.listen())
  }

  async #close(): Promise<void> {
    await this.#listening?.catch(() => undefined)
    if (this.#closed === undefined) return
    // A worker that was replaced has closed the listener before; its connections may still be there.
    if (this.#server.listening) this.#server.close()
    this.#server.closeIdleConnections()
    const impatience = setTimeout(() => this.#server.closeAllConnections(), lastGraceMs)
    await this.#closed
    clearTimeout(impatience)
    this.#listening = undefined
  }
}

/** A request of `app.inject()`, in tests, comes by no listener. */
const isInjected = ({ raw }: FastifyRequest): boolean => !(raw.socket instanceof Socket)

const statusOf = ({ code }: NodeJS.ErrnoException): string =>
  code === 'HPE_HEADER_OVERFLOW'
    ? '431 Request Header Fields Too Large'
    : code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? '408 Request Timeout'
      : '400 Bad Request'

/** Node hands these sockets over without a listener for errors: a reset would end the process. */
function refuse(socket: Duplex, status: string): void {
  socket.on('error', () => socket.destroy())
  if (!socket.writable) {
    socket.destroy()
    return
  }
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy())
}
