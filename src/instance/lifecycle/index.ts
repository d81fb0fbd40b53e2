import cluster from 'node:cluster'
import type { ServerResponse } from 'node:http'
import type { FastifyFleet, FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { onHijack } from '../../base/internals/hijack.ts'
import { bool, int, object, resolveOptions, type Shapes } from '../../base/options.ts'
import { stateChannel } from '../channels.ts'
import { identity, type LifecycleState } from '../identity.ts'
import { cameByManagement } from '../operators/listener.ts'
import { boundDefaults, boundShapes, type ConnectionBounds, type ResolvedBounds } from '../server-bounds.ts'
import { Connections, type Flow } from './connections.ts'
import { Departure, quietMs, sweepEveryMs } from './shutdown.ts'
import { type Ending, onEnding } from './signals.ts'
import { Lifecycle } from './state.ts'
import { rememberSource } from './streams.ts'

export interface LifecycleOptions {
  /** Time from the first signal to the exit, at the latest, 1 to 3,600,000 ms. @default SHUTDOWN_TIMEOUT, else 30000 */
  shutdownTimeoutMs?: number
  /**
   * Time between "not ready" and the closing of the listener, in which requests are still served and fronts learn of
   * the drain, 0 to 600,000 ms. @default DRAIN_DELAY, else 5000 with NODE_ENV=production and 0 without
   */
  drainDelayMs?: number
  /** Long-lived connections (WebSockets) are closed spread over this window, 0 to 600,000 ms. @default 1000 */
  evictWindowMs?: number
  /** Handle SIGTERM, SIGINT, pm2's `shutdown` message and fatal errors, and end the process. @default true */
  signals?: boolean
  /** Bounds of the application's server: slow clients, HTTP/2 sessions, requests per connection. */
  connections?: ConnectionBounds
}

export interface ShutdownOptions {
  /**
   * Other processes go on listening on the same port, so no front has to learn of anything: the listener closes at
   * once, and neither the state nor a header says "draining" of a port that serves on. @default false
   */
  handover?: boolean
}

type Resolved = Required<Omit<LifecycleOptions, 'connections'>> & { readonly connections: ResolvedBounds }

const shapes: Shapes = {
  shutdownTimeoutMs: int(1, 3_600_000, 'milliseconds'),
  drainDelayMs: int(0, 600_000, 'milliseconds'),
  evictWindowMs: int(0, 600_000, 'milliseconds'),
  signals: bool,
  connections: object(boundShapes),
}
const defaults = {
  shutdownTimeoutMs: 30_000,
  drainDelayMs: 0,
  evictWindowMs: 1_000,
  signals: true,
  connections: boundDefaults,
} satisfies LifecycleOptions

declare module 'fastify' {
  interface FastifyFleet {
    readonly state: LifecycleState
    /** How many requests wait for their answer, and how long they did. */
    readonly flow?: Flow
    /** The error that ends this process, once there is one: `/live` answers 503 from then on. */
    readonly fatal?: Error
    /** Leaves the rotation and goes on serving; {@link FastifyFleet.undrain} takes it back. */
    drain(): void
    /** Returns to the rotation. Does nothing once a shutdown has begun. */
    undrain(): void
    /**
     * Drains, closes everything and settles with the exit code: 0 when clean, 1 when the deadline cut anything. It
     * does not end the process; signals do.
     */
    shutdown(reason?: string, options?: ShutdownOptions): Promise<number>
    /** Called with each new state, in order. A listener that throws is logged and ignored. */
    onState(listener: (state: LifecycleState) => void): void
  }
}

const plugin: FastifyPluginAsync<LifecycleOptions> = async (app, given) => {
  if (!app.hasDecorator('fleet')) await app.register(identity)
  const env = readEnv()
  const fromEnv = {
    shutdownTimeoutMs: env.SHUTDOWN_TIMEOUT,
    drainDelayMs: env.DRAIN_DELAY ?? (env.production ? 5_000 : undefined),
  }
  const options = resolveOptions<Resolved>('lifecycle', shapes, defaults, fromEnv, given)
  app.fleet.configure('lifecycle', options)
  const life = new Lifecycle((err) => app.log.error({ err }, 'a listener for the state failed'))
  const connections = new Connections(options.connections, given.connections)
  // WebSockets may be served by a plugin further down, which the root cannot see.
  const scopes: [FastifyInstance, ...FastifyInstance[]] = [app]
  app.addHook('onRegister', (scope) => void scopes.push(scope))
  let departure: Promise<number> | undefined

  const fleet = Object.assign(app.fleet, {
    flow: connections.flow as Flow,
    drain: () => void life.move('draining', ['serving']),
    undrain: () => void (departure ?? life.move('serving', ['draining'])),
    onState: (listener: (state: LifecycleState) => void) => life.onState(listener),
    shutdown: (reason = 'shutdown()', { handover = false } = {}) => {
      if (handover && !departure) for (const response of connections.responses()) closeAfter(response)
      departure ??= depart(scopes, life, connections, options, reason, handover)
      return departure
    },
  })
  Object.defineProperty(fleet, 'state', { get: () => life.state, enumerable: true })
  fleet.contribute(() => ({ state: life.state }))

  connections.watch(app.server)
  app.addHook('onListen', async () => {
    for (const server of secondaryServers(app)) connections.watch(server)
    life.move('serving', ['starting'])
  })
  app.addHook('onRequest', (request: FastifyRequest, reply: FastifyReply, done) => {
    // Operators and probes stay until the end, and are not waited for.
    if (cameByManagement(request.raw)) {
      done()
      return
    }
    if (life.state === 'draining' && request.headers['x-fleet-retry'] !== undefined && anotherServes(app.fleet)) {
      sayDraining(reply.raw)
      done(new FleetError('FLEET_ERR_DRAINING'))
      return
    }
    if (!connections.begin(reply.raw, request)) {
      closeAfter(reply.raw)
      done(new FleetError('FLEET_ERR_PIPELINE_LIMIT'))
      return
    }
    if (life.state !== 'serving') sayDraining(reply.raw)
    else if (departure) closeAfter(reply.raw)
    if (request.headers.accept === 'text/event-stream') rememberSource(reply.raw)
    done()
  })
  app.addHook('onSend', (_request, reply, payload, done) => {
    connections.answering(reply.raw)
    done(null, payload)
  })
  onHijack(app, (reply) => connections.answering(reply.raw))
  life.onState((state) => stateChannel.publish({ instance: app.fleet.instance.id, state }))
  life.onState((state) => {
    if (state === 'draining' || state === 'closed')
      for (const response of connections.responses()) sayDraining(response)
  })
  // `app.close()` called by somebody else: the answers in flight must not keep their sockets, nor idle ones the close.
  app.addHook('preClose', async () => {
    life.move('closed', ['starting', 'serving', 'draining'])
    sweepUntilClosed(app, connections)
  })
  if (options.signals) handleSignals(app, fleet)
}

async function depart(
  scopes: readonly [FastifyInstance, ...FastifyInstance[]],
  life: Lifecycle,
  connections: Connections,
  options: Resolved,
  reason: string,
  handover: boolean,
): Promise<number> {
  // Before any code that is not ours: whatever that does, the end is bounded.
  const course = new Departure(scopes, connections, options)
  const [app] = scopes
  app.log.info({ reason, handover, inFlight: connections.inFlight }, 'draining')
  const code = await course.run(life, handover)
  app.log.info({ code }, 'closed')
  return code
}

function handleSignals(
  app: FastifyInstance,
  fleet: { shutdown(reason: string, options: ShutdownOptions): Promise<number>; fatal?: Error },
): void {
  const stop = onEnding({
    async first(ending: Ending, error?: Error) {
      if (error) {
        fleet.fatal = error
        app.log.fatal({ err: error }, 'fatal error')
        // An app without a logger would end without a word, which Node itself never does.
        if (app.log.level === undefined || app.log.level === 'silent') process.stderr.write(`${error.stack}\n`)
      }
      // A signal to one process of a cluster: pm2 replaces it, and its siblings hold the port. That the whole group
      // ends is told by a message of `fleet start`; see the worker room.
      return await fleet.shutdown(ending, { handover: cluster.isWorker })
    },
    second: (ending) => app.log.warn({ reason: ending }, 'second signal: ending at once'),
  })
  app.addHook('onClose', async () => stop())
}

/**
 * A front that sends `X-Fleet-Retry` can take this request elsewhere. Open-source nginx has no active health check:
 * the refusal, before any work is done, is how it learns of the drain while the listener is still open.
 */
function anotherServes(fleet: FastifyFleet): boolean {
  const { host, port } = fleet.instance
  // Workers that share this one's port are no other target.
  return fleet.peers().some((peer) => peer.state === 'serving' && (peer.host !== host || peer.port !== port))
}

/** The client's next request should use another connection, which then leads to another instance. */
function sayDraining(response: ServerResponse): void {
  if (!response.headersSent) response.setHeader('X-Fleet-Draining', '1')
  closeAfter(response)
}

function closeAfter(response: ServerResponse): void {
  // Node writes `Connection: close` from this flag, for hijacked responses too; on HTTP/2 it means nothing.
  if (!response.headersSent) response.shouldKeepAlive = false
}

function sweepUntilClosed(app: FastifyInstance, connections: Connections): void {
  const timer = setInterval(() => connections.sweep(quietMs), sweepEveryMs).unref()
  app.server.once('close', () => clearInterval(timer))
}

/** Fastify listens on `localhost` with one server per address and keeps the others under a symbol. */
function secondaryServers(app: FastifyInstance): Parameters<Connections['watch']>[0][] {
  const key = Object.getOwnPropertySymbols(app).find((symbol) => symbol.description === 'fastify.serverBindings')
  return key ? ((app as unknown as Record<symbol, Parameters<Connections['watch']>[0][]>)[key] ?? []) : []
}

/** Drains and closes an instance without losing a request: SIGTERM, SIGINT, pm2, fatal errors, `app.fleet.shutdown()`. */
export const lifecycle: FastifyPluginAsync<LifecycleOptions> = fp(plugin, { name: 'fleet-lifecycle', fastify: '5.x' })
export default lifecycle
