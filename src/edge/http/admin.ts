import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { http } from '../../base/internals/node-http.ts'
import { networks } from '../../base/networks.ts'
import {
  bearerToken,
  cameThroughProxy,
  changesState,
  initiatorOf,
  isLoopbackHost,
  isProvenChange,
  requestedHost,
  SecretToken,
} from '../../base/operator-access.ts'
import { guardConnections, StallGuard } from '../../base/socket-bounds.ts'
import type { Target } from '../balancer/target.ts'
import { destroyStreams, guard } from '../boundary.ts'
import { listen } from '../listen.ts'
import type { AdminOptions } from './options.ts'
import type { Pools, ProxyPool } from './pools.ts'

/** Requests and responses are small, so the limits are tighter than those of the proxy. */
const bounds = {
  maxHeaderSize: 16_384,
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 1_000,
}
const sendTimeoutMs = 10_000
const maxConnections = 64

interface AdministeredProxy {
  readonly closing: boolean
  metrics(): string
}

/** The operators' endpoints of a proxy, on a separate address that its clients cannot reach. */
export class Admin {
  readonly #server: Server
  readonly #options: AdminOptions & { host: string }
  readonly #pools: Pools
  readonly #proxy: AdministeredProxy
  readonly #token: SecretToken | undefined

  /** @throws FLEET_ERR_SECRET_WEAK; FLEET_ERR_SECRET_MISSING in production, and if other machines can connect */
  constructor(options: AdminOptions, pools: Pools, proxy: AdministeredProxy) {
    this.#options = { ...options, host: options.host ?? '127.0.0.1' }
    this.#pools = pools
    this.#proxy = proxy
    const { token, host } = this.#options
    if (token === undefined && (readEnv().production || !networks(['loopback'], '').includes(host))) {
      const where = readEnv().production ? 'in production' : `on ${host}`
      throw new FleetError('FLEET_ERR_SECRET_MISSING', `\`proxy.admin\` ${where} needs FLEET_ADMIN_TOKEN`)
    }
    this.#token = token === undefined ? undefined : new SecretToken(token, '`proxy.admin.token` (FLEET_ADMIN_TOKEN)')
    const handle = (request: IncomingMessage, response: ServerResponse): void => this.#handle(request, response)
    this.#server = http.createServer(bounds, guard('a request of an operator', handle, destroyStreams))
    this.#server.maxConnections = maxConnections
    guardConnections(this.#server)
    const stalls = new StallGuard(sendTimeoutMs)
    this.#server.on('connection', (socket) => stalls.add(socket))
  }

  /** @throws FLEET_ERR_PORT_TAKEN */
  async listen(): Promise<string> {
    return `http://${await listen(this.#server, this.#options)}`
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const respond = (status: number, body: object | string): void => {
      const text = typeof body === 'string' ? body : JSON.stringify(body)
      const type =
        typeof body === 'string' ? 'text/plain; version=0.0.4; charset=utf-8' : 'application/json; charset=utf-8'
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(text)
    }
    // No endpoint reads a body: it is discarded, and the connection closes instead of waiting for the rest.
    if (hasBody(request)) response.shouldKeepAlive = false
    request.resume()
    const route = `${request.method} ${request.url?.replace(/\?.*/s, '')}`
    if (route === 'GET /live') respond(200, { alive: true })
    else if (route === 'GET /ready') this.#ready(respond)
    else if (!this.#allows(request)) respond(404, notFound)
    else if (changesState(request.method) && !isProvenChange(request.headers)) respond(403, unproven())
    else if (route === 'GET /metrics') respond(200, this.#proxy.metrics())
    else if (route === 'GET /targets')
      respond(
        200,
        this.#pools.all.flatMap((pool) => pool.balancer.targets.map((target) => describe(target, pool))),
      )
    else if (route === 'GET /pools') respond(200, this.#pools.all.map(describePool))
    else this.#command(route, respond)
  }

  #command(route: string, respond: (status: number, body: object) => void): void {
    const [, kind, name = '', command = ''] = /^POST \/(targets|pools)\/([^/]+)\/(.+)$/.exec(route) ?? []
    const result = kind === 'targets' ? this.#commandTarget(name, command) : this.#commandPool(name, command)
    respond(result ? 200 : 404, result ?? notFound)
  }

  /** A target may be in several pools. */
  #commandTarget(id: string, command: string): object | undefined {
    if (command !== 'drain' && command !== 'undrain') return undefined
    const results = this.#pools.all.flatMap((pool) =>
      pool.balancer.targets
        .filter((target) => target.id === id)
        .map((target) => {
          pool.balancer[command](target)
          return describe(target, pool)
        }),
    )
    return results[0]
  }

  #commandPool(name: string, command: string): object | undefined {
    const pool = this.#pools.byName.get(name)
    const [, maintenance, percent] = /^(?:maintenance\/(on|off)|canary\/(\d{1,3}(?:\.\d{1,4})?))$/.exec(command) ?? []
    if (!pool || (maintenance === undefined && !(Number(percent) <= 100))) return undefined
    if (maintenance !== undefined) pool.maintenance = maintenance === 'on'
    else pool.balancer.canaryPercent = Number(percent)
    return describePool(pool)
  }

  /** Ready while any pool has a target: another proxy would have no other targets for the rest. */
  #ready(respond: (status: number, body: object) => void): void {
    const targets = this.#pools.all.reduce((sum, { balancer }) => sum + balancer.context.rotation.up, 0)
    const ready = !this.#proxy.closing && targets > 0
    respond(ready ? 200 : 503, { ready, targets })
  }

  /**
   * Without a token, a browser on this machine has access. Pages of other origins are rejected, also with a rebound name
   * (DNS rebinding).
   */
  #allows({ headers }: IncomingMessage): boolean {
    if (this.#token) return this.#token.equals(bearerToken(headers) ?? '')
    const host = requestedHost(headers)
    const isHere = host !== undefined && isLoopbackHost(host) && !cameThroughProxy(headers)
    return isHere && initiatorOf(headers) !== 'cross-origin'
  }
}

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0'

const notFound = { statusCode: 404, error: 'Not Found', message: 'not found' }

function unproven(): object {
  const { code, statusCode, message } = new FleetError(
    'FLEET_ERR_ORIGIN_UNPROVEN',
    'add `content-type: application/json`',
  )
  return { statusCode, code, message }
}

const describePool = ({ name, maintenance, balancer }: ProxyPool): object => ({
  name,
  maintenance,
  canaryPercent: balancer.canaryPercent,
  targets: balancer.targets.length,
  up: balancer.context.rotation.up,
  waiting: balancer.context.waitingRoom.length,
})

const describe = (target: Target, pool: ProxyPool): object => ({
  id: target.id,
  pool: pool.name,
  url: target.url.origin === 'null' ? target.url.href : target.url.origin,
  state: target.state,
  weight: target.weight,
  backup: target.backup,
  canary: target.canary,
  inflight: target.inflight,
  served: target.served,
  failed: target.failed,
  latencyMs: Math.round(target.latency.at(performance.now()) * 100) / 100,
  region: target.region,
  zone: target.zone,
})
