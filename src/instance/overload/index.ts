// Sheds load when the process receives more requests than it can handle.
//
// - limiter.ts decides for each request: `Limiter` by the age of the event loop's turn and the number in flight,
//   `ConcurrencyLimit` computes that number.
// - loop-turn.ts measures turns of the event loop and defers requests within one.
// - fast-reject.ts sheds requests of known routes before Fastify sees them.
// - The hook below sheds all others. docs/overload.md describes the rules.

import type { ServerResponse } from 'node:http'
import type { FastifyPluginAsync } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { bool, int, type OptionsOf, resolveOptions } from '../../base/options.ts'
import { readRouteConfig } from '../../base/route-config.ts'
import { asOurs, fleetPlugin } from '../compat/index.ts'
import { identity } from '../identity.ts'
import { expose, exposeGauge } from '../metrics/expose.ts'
import { FastReject, rejection, type ShedRequest } from './fast-reject.ts'
import { Limiter, limiterOptions, type ShedReason } from './limiter.ts'

/** @internal */
export const overloadOptions = {
  ...limiterOptions,
  /** `Retry-After` of a shed request. */
  retryAfter: int(1, 3_600, 'seconds').default(1),
}
export type OverloadOptions = OptionsOf<typeof overloadOptions>

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

const plugin: FastifyPluginAsync<OverloadOptions> = async (app, given) => {
  await ensure(app, identity)
  const options = resolveOptions('overload', overloadOptions, given)
  const { fleet } = app
  fleet.configure('overload', options)
  const limiter = new Limiter(fleet, options)
  const listeners: Parameters<Overload['onRefused']>[0][] = []
  const onRefused: Overload['onRefused'] = (listener) => void listeners.push(listener)
  app.decorate('overload', Object.assign(limiter, { onRefused }))

  const sendRejection = rejection(fleet.instance.id, options.retryAfter)
  const reject = (response: ServerResponse): void => {
    if (fleet.state !== 'serving' && fleet.state !== 'starting') response.shouldKeepAlive = false
    sendRejection(response)
  }
  const fastReject = new FastReject(limiter, (response, request, ms) => {
    reject(response)
    for (const listener of listeners) listener(request, ms)
  })
  fastReject.install(app)
  // Fastify listens on `localhost` with one server per address.
  app.addHook('onListen', async () => fastReject.install(app))

  app.addHook('onRoute', (route) => void readRouteConfig(route, 'critical', bool))
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
    const refused = 'Requests shed with 503 because the process was saturated'
    const saturated = 'Whether the event loop has had no idle moment for half a second'
    const limit = 'Largest number of requests in flight while the limit applies'
    await asOurs(app, 'overload', () => {
      expose(app, 'fleet_overload_refused_total', refused, 'reason', limiter.refused)
      exposeGauge(app, 'fleet_overload_saturated', saturated, () => (limiter.saturated ? 1 : 0), 'max')
      exposeGauge(app, 'fleet_overload_limit', limit, () => limiter.limit)
    })
  })
  const sampling = setInterval(() => limiter.sample(), sampleEveryMs).unref()
  app.addHook('onClose', async () => clearInterval(sampling))
}

/** Sheds requests that a saturated process cannot serve in time, so that the others are served in time. */
export const overload: FastifyPluginAsync<OverloadOptions> = fleetPlugin('overload', plugin)
export default overload
