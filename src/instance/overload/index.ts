import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { routeOf } from '../../base/internals/fastify.ts'
import { resolveOptions } from '../../base/options.ts'
import { promClient } from '../../base/prom-client.ts'
import { identity } from '../identity.ts'
import { Door, ownServers, type Refused } from './door.ts'
import { Gate, type Refusal } from './gate.ts'
import { defaults, type OverloadOptions, shapes } from './options.ts'
import { refusal } from './refusal.ts'

export type { Refused } from './door.ts'
export type { Refusal } from './gate.ts'
export type { OverloadOptions } from './options.ts'

export interface Overload {
  /** Whether the event loop has had no idle moment for at least half a second. */
  readonly saturated: boolean
  /** Requests at work at which the next is refused, when the limit is in force. */
  readonly limit: number
  readonly refused: Readonly<Record<Refusal, number>>
  /**
   * Called for each request that was refused before Fastify saw it, with the milliseconds it took: no hook runs for it,
   * and whoever counts answers in `onResponse` counts it here.
   */
  onRefused(listener: (refused: Refused, ms: number) => void): void
}

declare module 'fastify' {
  interface FastifyInstance {
    overload: Overload
  }
  interface FastifyContextConfig {
    /** Requests of this route are never refused because of overload. @default false */
    critical?: boolean
  }
}

/** How often the load is looked at, ms. */
const sampleEveryMs = 250

function describe(app: FastifyInstance, overload: Overload): void {
  if (!app.hasDecorator('metrics')) return
  const { Counter, Gauge } = promClient()
  const registers = [app.metrics]
  const count = new Counter({
    name: 'fleet_overload_refused_total',
    help: 'Requests refused with 503 because the process was saturated',
    labelNames: ['reason'],
    registers,
    collect() {
      count.reset()
      for (const [reason, refused] of Object.entries(overload.refused)) count.inc({ reason }, refused)
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
    help: 'Requests that may be at work at a time while the limit is in force',
    registers,
    collect() {
      this.set(overload.limit)
    },
  })
}

const plugin: FastifyPluginAsync<OverloadOptions> = async (app, given) => {
  if (!app.hasDecorator('fleet')) await app.register(identity)
  const options = resolveOptions<Required<OverloadOptions>>('overload', shapes, defaults, given)
  const { fleet } = app
  fleet.configure('overload', options)
  const gate = new Gate(fleet, options)
  const listeners: Parameters<Overload['onRefused']>[0][] = []
  const onRefused: Overload['onRefused'] = (listener) => void listeners.push(listener)
  app.decorate('overload', Object.assign(gate, { onRefused }))

  const answer = refusal(fleet.instance.id, options.retryAfter)
  const refuse = (response: ServerResponse): void => {
    if (fleet.state !== 'serving') response.shouldKeepAlive = false
    answer(response)
  }
  const door = new Door(gate, (response, refused, ms) => {
    refuse(response)
    for (const listener of listeners) listener(refused, ms)
  })
  const stand = async (): Promise<void> => {
    for (const server of ownServers(app)) door.stand(server)
  }
  await stand()
  // Fastify listens on `localhost` with one server per address.
  app.addHook('onListen', stand)

  // Before the lifecycle's: what is refused has never begun.
  app.addHook('onRequest', (request, reply, done) => {
    if (door.admits(request.raw)) {
      done()
      return
    }
    const config = routeOf(request)
    if (config.critical === true || config.probe === true) {
      done()
      return
    }
    gate.decide(done, () => {
      door.learn(request.raw, config)
      reply.hijack()
      refuse(reply.raw)
    })
  })
  // The lifecycle counts what is at work. It comes after this plugin, as in the umbrella, or not at all: then only the
  // turn of the event loop decides.
  app.addHook('onReady', async () => {
    door.look(app)
    describe(app, app.overload)
  })
  const sampling = setInterval(() => gate.sample(), sampleEveryMs).unref()
  app.addHook('onClose', async () => clearInterval(sampling))
}

/** Refuses what a saturated process cannot do in time, so that what it accepts is done in time. */
export const overload: FastifyPluginAsync<OverloadOptions> = fp(plugin, { name: 'fleet-overload', fastify: '5.x' })
export default overload
