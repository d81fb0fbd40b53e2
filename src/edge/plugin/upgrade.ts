import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { FleetError } from '../../base/errors.ts'
import { endConnection } from '../../base/socket-bounds.ts'
import { guard } from '../boundary.ts'
import { clientGone } from '../http/admission.ts'
import { asFleetError } from '../http/error-page.ts'
import { isWebSocket } from '../http/node-server.ts'
import { Tunnel, upgradedClient } from '../http/tunnel.ts'
import type { Forwarder } from './forwarder.ts'
import type { Target } from './request.ts'

/** Requests for an upgrade, with the bytes that followed them. */
const heads = new WeakMap<IncomingMessage, Buffer>()
/** Servers whose upgrades are routed. */
const routed = new WeakSet<object>()

const ignore = (): void => {}

/**
 * Routes requests for an upgrade like all others, so that they pass the same hooks. @fastify/websocket does the same; if the
 * app has it, its routing is used.
 */
export function routeUpgrades(app: FastifyInstance): void {
  const { server } = app
  if (routed.has(server)) return
  routed.add(server)
  const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    heads.set(request, head)
    if (app.hasPlugin('@fastify/websocket')) return
    // Node has removed its listener, and an error without one would end the process.
    socket.on('error', ignore)
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    response.assignSocket(socket as never)
    const finished = guard('a response to an upgrade', () => {
      endConnection(socket)
    })
    response.on('finish', finished)
    app.routing(request, response)
  }
  server.on(
    'upgrade',
    guard('an upgrade', upgrade, (_error, _request, socket) => socket.destroy()),
  )
}

/** Whether a request asks for a WebSocket and its connection has left Node's HTTP server. */
export const isUpgrade = ({ raw }: FastifyRequest): boolean =>
  (raw as { upgrade?: boolean }).upgrade === true && isWebSocket(raw)

/** WebSockets of one plugin. */
export class Upgrades {
  readonly #forwarder: Forwarder
  readonly #idleTimeoutMs: number
  readonly #open = new Set<Duplex>()

  constructor(forwarder: Forwarder, idleTimeoutMs: number) {
    this.#forwarder = forwarder
    this.#idleTimeoutMs = idleTimeoutMs
  }

  async start(request: FastifyRequest, reply: FastifyReply, target: Target): Promise<void> {
    const { raw } = request
    const socket = raw.socket as Duplex
    reply.hijack()
    // Set by hooks, for example a session's cookie.
    const set = reply.getHeaders()
    socket.on('error', ignore)
    const client = upgradedClient(raw, socket)
    try {
      const prepared = await this.#forwarder.prepare(request, target, {}, true)
      // Known by now: another plugin may have routed the request before the listener above was called.
      const head = heads.get(raw) ?? Buffer.alloc(0)
      const cookies = set['set-cookie']
      const bounds = { idleTimeoutMs: this.#idleTimeoutMs, stalls: this.#forwarder.stalls }
      const { open } = client
      const own = { ...client, open: (headers: Parameters<typeof open>[0]) => open(withCookies(headers, cookies)) }
      const tunnel = new Tunnel(own, head, this.#open, bounds)
      const exchange = prepared.balancer.dispatch({ ...prepared.options, upgrade: 'websocket' }, tunnel, prepared.input)
      socket.once(
        'close',
        guard('the end of a tunnel', () => exchange.abort(clientGone())),
      )
    } catch (error) {
      client.fail(error instanceof FleetError ? error : asFleetError(error as Error))
    }
  }

  /** As in a `ws` server, so that a shutdown can end them one after the other. Both sides get a moment to close. */
  get clients(): { close(): void; terminate(): void }[] {
    return [...this.#open].map((socket) => ({ close: () => endConnection(socket), terminate: () => socket.destroy() }))
  }
}

/** The upstream's response with the cookies that the app's own hooks set. */
function withCookies<H extends Record<string, string | string[]>>(headers: H, cookies: unknown): H {
  if (cookies === undefined) return headers
  return { ...headers, 'set-cookie': [headers['set-cookie'] ?? [], cookies as string | string[]].flat() }
}
