// Sheds load when the process receives more requests than it can handle.
//
// - limiter.ts decides for each request: `Limiter` by the age of the event loop's turn and the number in flight,
//   `ConcurrencyLimit` computes that number.
// - loop-turn.ts measures turns of the event loop and defers requests within one.
// - fast-reject.ts sheds requests of known routes before Fastify sees them.
// - The hook below sheds all others. docs/overload.md describes the rules.

import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { ensure } from '../../base/ensure.ts'
import { bool, int, resolveOptions, type Shapes } from '../../base/options.ts'
import { promClient } from '../../base/prom-client.ts'
import { identity } from '../identity.ts'
import { FastReject, rejection, type ShedRequest } from './fast-reject.ts'
import { Limiter, type ShedReason } from './limiter.ts'

export interface OverloadOptions {
  /** Longest wait of a request, beyond its usual time, while the process is saturated, 1 to 10,000 ms. @default 20 */
  targetMs?: number
  /**
   * Time without an idle moment of the event loop before {@link OverloadOptions.targetMs} applies, and longest turn
   * until then, 10 to 60,000 ms. @default 500
   */
  burstMs?: number
  /**
   * Never shed load at or below this number of requests, in flight or in this turn and the previous one, 1 to 10,000.
   * A process that shares its cores may be slow with three clients, and shedding would not make it faster. @default 20
   */
  minRequests?: number
  /**
   * Apply the concurrency limit at all times, not only while the event loop is saturated. For work whose bottleneck is
   * elsewhere, such as a pool or another service. It cannot tell a saturated service from a slow one. @default false
   */
  latency?: boolean
  /** `Retry-After` of a shed request, 1 to 3,600 s. @default 1 */
  retryAfter?: number
}

const shapes: Shapes = {
  targetMs: int(1, 10_000, 'milliseconds'),
  burstMs: int(10, 60_000, 'milliseconds'),
  minRequests: int(1, 10_000),
  latency: bool,
  retryAfter: int(1, 3_600, 'seconds'),
}
const defaults = {
  targetMs: 20,
  burstMs: 500,
  minRequests: 20,
  latency: false,
  retryAfter: 1,
} satisfies OverloadOptions

/** `app.overload` */
export interface Overload {
  /** Whether the event loop has had no idle moment for at least half a second. */
  readonly saturated: boolean
  /** Requests in flight at which the next one is shed, while the limit applies. */
  readonly limit: number
  /** Shed requests since the start, by reason. */
  readonly refused: Readonly<Record<ShedReason, number>>
  /**
   * Calls back for each request that was shed before Fastify saw it, with the time it took in ms. No hook runs for such
   * a request, so code that counts responses in `onResponse` counts it here.
   */
  onRefused(listener: (request: ShedRequest, ms: number) => void): void
}

declare module 'fastify' {
  interface FastifyInstance {
    overload: Overload
  }
  interface FastifyContextConfig {
    /** Requests of this route are never shed because of overload. @default false */
    critical?: boolean
  }
}

/** Interval at which the limit is updated, ms. */
const sampleEveryMs = 250

function addMetrics(app: FastifyInstance, overload: Overload): void {
  if (!app.hasDecorator('metrics')) return
  const { Counter, Gauge } = promClient()
  const registers = [app.metrics]
  const count = new Counter({
    name: 'fleet_overload_refused_total',
    help: 'Requests shed with 503 because the process was saturated',
    labelNames: ['reason'],
    registers,
    collect() {
      count.reset()
      for (const [reason, shed] of Object.entries(overload.refused)) count.inc({ reason }, shed)
    },
  })
  new Gauge({
    name: 'fleet_overload_saturated',
    help: 'Whether the event loop has had no idle moment for half a second',
    aggregator: 'max',
    registers,
    collect() {
      this.set(overload.saturated ? 1 : 0)
    },
  })
  new Gauge({
    name: 'fleet_overload_limit',
    help: 'Largest number of requests in flight while the limit applies',
    registers,
    collect() {
      this.set(overload.limit)
    },
  })
}

const plugin: FastifyPluginAsync<OverloadOptions> = async (app, given) => {
  await ensure(app, identity)
  const options = resolveOptions<Required<OverloadOptions>>('overload', shapes, defaults, given)
  const { fleet } = app
  fleet.configure('overload', options)
  const limiter = new Limiter(fleet, options)
  const listeners: Parameters<Overload['onRefused']>[0][] = []
  const onRefused: Overload['onRefused'] = (listener) => void listeners.push(listener)
  app.decorate('overload', Object.assign(limiter, { onRefused }))

  const sendRejection = rejection(fleet.instance.id, options.retryAfter)
  const reject = (response: ServerResponse): void => {
    if (fleet.state !== 'serving') response.shouldKeepAlive = false
    sendRejection(response)
  }
  const fastReject = new FastReject(limiter, (response, request, ms) => {
    reject(response)
    for (const listener of listeners) listener(request, ms)
  })
  fastReject.install(app)
  // Fastify listens on `localhost` with one server per address.
  app.addHook('onListen', async () => fastReject.install(app))

  // Runs before the lifecycle's hook, so a shed request never counts as in flight.
  app.addHook('onRequest', (request, reply, done) => {
    if (fastReject.admits(request.raw)) {
      done()
      return
    }
    const { config } = request.routeOptions
    if (config.critical === true || config.probe === true) {
      done()
      return
    }
    limiter.decide(done, () => {
      fastReject.learn(request.raw, config)
      reply.hijack()
      reject(reply.raw)
    })
  })
  // The lifecycle counts requests in flight. Without it, only the age of the event loop's turn decides.
  app.addHook('onReady', async () => {
    fastReject.ready(app)
    addMetrics(app, app.overload)
  })
  const sampling = setInterval(() => limiter.sample(), sampleEveryMs).unref()
  app.addHook('onClose', async () => clearInterval(sampling))
}

/** Sheds requests that a saturated process cannot serve in time, so that the others are served in time. */
export const overload: FastifyPluginAsync<OverloadOptions> = fp(plugin, { name: 'fleet-overload', fastify: '5.x' })
export default overload
