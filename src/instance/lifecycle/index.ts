// From SIGTERM to exit:
//
// 1. signals.ts receives SIGTERM, SIGINT, pm2's message or a fatal error and calls `app.fleet.shutdown()` below. close.ts does
//    so for `app.close()`.
// 2. shutdown.ts starts the deadline and runs the steps: drain, close streams and WebSockets, stop listening, wait for
//    requests in flight, close plugins. `Shutdown.run` reads top-down.
// 3. signals.ts exits with the code that the shutdown returned.
//
// state.ts has the state and its listeners, connections.ts the sockets of all servers, in-flight.ts the requests,
// streams.ts WebSockets and event streams, rejection.ts requests that can go to another instance. The hooks below count
// requests and announce a drain in responses. docs/lifecycle.md describes the behaviour.

import cluster from 'node:cluster'
import { channel } from 'node:diagnostics_channel'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyFleet, FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { hasOwnServer, hooksReachAllRoutes, serversOf } from '../../base/internals/fastify.ts'
import { onHijack } from '../../base/internals/hijack.ts'
import { bool, int, type OptionsOf, object, resolveOptions } from '../../base/options.ts'
import { extendFleet, fleetPlugin } from '../compat/index.ts'
import { identity, type LifecycleState } from '../identity.ts'
import { isInjected, usesManagementListener } from '../operators/listener.ts'
import { boundOptions } from '../server-bounds.ts'
import { drainBeforeClose } from './close.ts'
import { Connections, type Flow } from './connections.ts'
import { Rejection } from './rejection.ts'
import { Shutdown } from './shutdown.ts'
import { afterSameSignal, type ExitCause, onExitSignal } from './signals.ts'
import { Lifecycle } from './state.ts'
import { rememberSource } from './streams.ts'

/** @internal */
export const lifecycleOptions = {
  /** Longest time from the first signal to the exit. */
  shutdownTimeoutMs: int(1, 3_600_000, 'milliseconds').env('SHUTDOWN_TIMEOUT').default(30_000),
  /**
   * Time from "not ready" until the listener closes, in which requests are served and load balancers notice the drain.
   *
   * @default `DRAIN_DELAY`, else 5,000 with `NODE_ENV=production` and 0 without
   */
  drainDelayMs: int(0, 600_000, 'milliseconds').default(0),
  /** Window over which the closing of WebSockets is spread. */
  evictWindowMs: int(0, 600_000, 'milliseconds').default(1_000),
  /** Handle SIGTERM, SIGINT, pm2's `shutdown` message and fatal errors, and end the process. */
  signals: bool.default(true),
  /** Limits of the application's server: slow clients, HTTP/2 sessions, requests per connection. */
  connections: object(boundOptions).default({}),
}
export type LifecycleOptions = OptionsOf<typeof lifecycleOptions>

export interface ShutdownOptions {
  /**
   * Other processes keep listening on the same port, so no load balancer has to notice: the listener closes at once, and
   * neither the state nor a header reports a drain. @default false
   */
  handover?: boolean
}

/**
 * For tracers and error trackers, as `fleet:check` of the health plugin; docs/observability.md lists the messages. Without
 * subscribers a channel costs nothing. As with every diagnostics channel, an error of a subscriber ends the process.
 */
const stateChannel = channel('fleet:state')

declare module 'fastify' {
  interface FastifyFleet {
    readonly state: LifecycleState
    /** Requests that wait for their response, and how long requests have waited. */
    readonly flow?: Flow
    /** Why a shutdown was started, and when, on the clock of `performance.now()`. @internal */
    readonly stopping?: { readonly reason: string; readonly since: number }
    /** The fatal error that ends this process. `/live` responds 503 from then on. */
    readonly fatal?: Error
    /** Leaves rotation and keeps serving. {@link FastifyFleet.undrain} reverses it. */
    drain(): void
    /** Returns to rotation. Does nothing once a shutdown has started. */
    undrain(): void
    /**
     * Drains, closes everything and resolves to the exit code: 0, or 1 if the deadline cut anything. It does not end the
     * process; signals do. Later calls return the same promise.
     */
    shutdown(reason?: string, options?: ShutdownOptions): Promise<number>
    /** Awaited by a shutdown before Fastify closes and rejects all requests. @internal */
    onDrained?(wait: () => Promise<unknown>): void
    /** Calls back with each new state, in order. Errors of a listener are logged. */
    onState(listener: (state: LifecycleState) => void): void
  }
}

const plugin: FastifyPluginAsync<LifecycleOptions> = async (app, given) => {
  await ensure(app, identity)
  const env = readEnv()
  const fromEnv = { drainDelayMs: env.DRAIN_DELAY ?? (env.production ? 5_000 : undefined) }
  const options = resolveOptions('lifecycle', lifecycleOptions, fromEnv, given)
  app.fleet.configure('lifecycle', options)
  const lifecycle = new Lifecycle((err) => app.log.error({ err }, 'a state listener failed'))
  const connections = new Connections(
    options.connections,
    given.connections,
    hooksReachAllRoutes(app) ? undefined : (request, response) => arrive(request, response),
  )
  // A child scope may serve WebSockets, and its decorator is not visible here.
  const scopes: [FastifyInstance, ...FastifyInstance[]] = [app]
  app.addHook('onRegister', (scope) => void scopes.push(scope))
  const rejection = new Rejection()
  let shutdown: Promise<number> | undefined
  let stopping: FastifyFleet['stopping']
  const drained: (() => Promise<unknown>)[] = []
  const closing = Promise.withResolvers<void>()
  // Requests arrive before `onListen` too, and an app may listen without Fastify.
  const serves = (): boolean => lifecycle.state !== 'starting' || (app.server.listening && hasOwnServer(app))
  const close = drainBeforeClose(app, () => (serves() || shutdown ? app.fleet.shutdown('app.close()') : undefined))

  const { fleet } = app
  extendFleet(app, {
    get state() {
      return lifecycle.state
    },
    get stopping() {
      return stopping
    },
    flow: connections.flow as Flow,
    drain: () => void lifecycle.move('draining', ['serving']),
    undrain: () => void (shutdown ?? lifecycle.move('serving', ['draining'])),
    onState: (listener: (state: LifecycleState) => void) => lifecycle.onState(listener),
    onDrained: (wait: () => Promise<unknown>) => void drained.push(wait),
    shutdown: (reason = 'shutdown()', { handover = false } = {}) => {
      stopping ??= { reason, since: performance.now() }
      if (handover && !shutdown) for (const response of connections.responses()) closeAfter(response)
      // The constructor starts the deadline, before any other code runs.
      shutdown ??= new Shutdown(scopes, connections, options, {
        close,
        closing: closing.promise,
        drained,
        beforeListenerCloses: () => rejection.beforeClose(),
      }).run(lifecycle, reason, handover)
      return shutdown
    },
  })
  const announce = (request: IncomingMessage, response: ServerResponse): void => {
    if (lifecycle.state === 'draining') announceDrain(response)
    else if (shutdown) closeAfter(response)
    if (request.headers.accept === 'text/event-stream') rememberSource(response)
  }
  const arrive = (request: IncomingMessage, response: ServerResponse<IncomingMessage>): void => {
    connections.begin(response)
    announce(request, response)
  }
  fleet.contribute(() => ({ state: lifecycle.state }))

  connections.watch(app.server)
  app.addHook('onListen', async () => {
    for (const server of serversOf(app)) connections.watch(server)
    if (!shutdown) lifecycle.move('serving', ['starting'])
  })
  app.addHook('onRequest', (request: FastifyRequest, reply: FastifyReply, done) => {
    // Requests of operators and probes are served until the end and do not delay a shutdown.
    if (usesManagementListener(request.raw)) {
      done()
      return
    }
    if (lifecycle.state === 'draining' && rejection.applies(request, app.fleet)) {
      announceDrain(reply.raw)
      done(new FleetError('FLEET_ERR_DRAINING'))
      return
    }
    if (!connections.begin(reply.raw, request)) {
      closeAfter(reply.raw)
      done(new FleetError('FLEET_ERR_PIPELINE_LIMIT'))
      return
    }
    announce(request.raw, reply.raw)
    done()
  })
  app.addHook('onSend', (_request, reply, payload, done) => {
    connections.responding(reply.raw)
    done(null, payload)
  })
  onHijack(app, (reply) => connections.responding(reply.raw))
  lifecycle.onState((state) => stateChannel.publish({ instance: app.fleet.instance.id, state }))
  lifecycle.onState((state) => {
    if (state === 'draining') for (const response of connections.responses()) announceDrain(response)
  })
  app.addHook('preClose', async () => {
    closing.resolve()
    lifecycle.move('closed', ['starting', 'serving', 'draining'])
  })
  if (options.signals) handleSignals(app, fleet, options.shutdownTimeoutMs)
}

function handleSignals(
  app: FastifyInstance,
  fleet: { shutdown(reason: string, options: ShutdownOptions): Promise<number>; fatal?: Error },
  timeoutMs: number,
): void {
  let isBooting = true
  app.addHook('onReady', async () => {
    isBooting = false
  })
  const stop = onExitSignal({
    timeoutMs,
    isBooting: () => isBooting,
    async first(cause: ExitCause, error?: Error) {
      if (error) {
        fleet.fatal = error
        app.log.fatal({ err: error }, 'fatal error')
        // Without a logger the error would be lost; Node itself prints it.
        if (app.log.level === undefined || app.log.level === 'silent') process.stderr.write(`${error.stack}\n`)
      }
      // A signal to one process of a cluster: pm2 replaces it while its siblings serve the port. `fleet start` sends a
      // message when the whole group shuts down; see src/host/worker.ts.
      const handover = cluster.isWorker
      // A signal to the process group reaches `fleet start` as well, which then sends that message.
      if (handover && !error && readEnv().FLEET_WORKER !== undefined) await new Promise<void>(afterSameSignal)
      return await fleet.shutdown(cause, { handover })
    },
    deferred: (code) =>
      app.log.warn({ code }, 'process.exit() was called during the shutdown: exiting when it is complete'),
    second: (cause) => app.log.warn({ reason: cause }, 'second signal: exiting at once'),
  })
  app.addHook('onClose', async () => stop())
}

/** Makes the client open another connection, to another instance, for its next request. */
function announceDrain(response: ServerResponse): void {
  if (!response.headersSent && !isInjected(response.req)) response.setHeader('X-Fleet-Draining', '1')
  closeAfter(response)
}

function closeAfter(response: ServerResponse): void {
  // Node writes `Connection: close` because of this flag, also for hijacked responses. HTTP/2 ignores it.
  if (!response.headersSent && !isInjected(response.req)) response.shouldKeepAlive = false
}

/** Drains and closes an instance without losing a request: SIGTERM, SIGINT, pm2, fatal errors, `app.fleet.shutdown()`. */
export const lifecycle: FastifyPluginAsync<LifecycleOptions> = fleetPlugin('lifecycle', plugin)
export default lifecycle
