import { performance } from 'node:perf_hooks'
import type { FastifyFleet, FastifyInstance, FastifyPluginAsync, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { Counter, Gauge } from 'prom-client'
import { FleetError } from '../../base/errors.ts'
import { bool, int, resolveOptions, type Shapes } from '../../base/options.ts'
import { routeOf } from '../fastify-internals.ts'
import { identity } from '../identity.ts'
import { ConcurrencyLimit } from './limit.ts'
import { Turn } from './turn.ts'

export interface OverloadOptions {
  /**
   * How long a request may wait for its turn while the process is saturated, beyond the time it takes anyway, 1 to
   * 10,000 ms. @default 20
   */
  targetMs?: number
  /**
   * How long the event loop may do without an idle moment before {@link OverloadOptions.targetMs} holds, and how long one
   * turn of it may work off requests until then, 10 to 60,000 ms. @default 500
   */
  burstMs?: number
  /**
   * So many requests are never too many, in one turn and the one before, or at work at a time, 1 to 10,000. A process that
   * shares its cores may be slow with three clients; refusing them would make it no quicker. @default 20
   */
  minRequests?: number
  /**
   * Hold the concurrency limit at all times, and not only while the event loop is saturated: for work whose bottleneck
   * is elsewhere, a pool or another service. It cannot tell a service that is full from one that is slow.
   * @default false
   */
  latency?: boolean
  /** `Retry-After` of a refusal, 1 to 3,600 s. @default 1 */
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

/** Why a request was refused: it came late in a long turn, or too many were at work. */
export type Refusal = 'turn' | 'concurrency'

export interface Overload {
  /** Whether the event loop has had no idle moment for at least half a second. */
  readonly saturated: boolean
  /** Requests at work at which the next is refused, when the limit is in force. */
  readonly limit: number
  readonly refused: Readonly<Record<Refusal, number>>
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

const idle = { waiting: 0, answered: 0, waitedMs: 0 } as const

/** How often the load is looked at, ms. */
const sampleEveryMs = 250

/** Decides about every request; what it decides by is computed by a timer. */
class Gate implements Overload {
  readonly refused = { turn: 0, concurrency: 0 }
  readonly #options: Required<OverloadOptions>
  readonly #fleet: FastifyFleet
  readonly #turn = new Turn()
  readonly #limit: ConcurrencyLimit
  #allowed: number
  #utilization = performance.eventLoopUtilization()
  #before = { answered: 0, waitedMs: 0 }
  #most = 0
  #sampledAt = performance.now()

  constructor(fleet: FastifyFleet, options: Required<OverloadOptions>) {
    this.#fleet = fleet
    this.#options = options
    this.#limit = new ConcurrencyLimit(options.targetMs)
    this.#allowed = options.latency ? this.limit : Number.POSITIVE_INFINITY
  }

  get saturated(): boolean {
    return this.#limit.saturated
  }

  get limit(): number {
    return Math.floor(this.#limit.value)
  }

  /** Why the next request is refused; `undefined` when it is not. */
  refuses(): Refusal | undefined {
    const waiting = this.#fleet.flow?.waiting ?? 0
    if (waiting > this.#most) this.#most = waiting
    const { minRequests } = this.#options
    if (this.#late(this.#turn.age()) && this.#turn.requests > minRequests) return 'turn'
    return waiting >= this.#allowed && waiting >= minRequests ? 'concurrency' : undefined
  }

  /** One long turn is a pause, by a collection of garbage or by a neighbour; it takes two of them to be too much work. */
  #late(age: number): boolean {
    const { targetMs, burstMs } = this.#options
    if (age > burstMs) return true
    return age > targetMs && this.#turn.lastedBefore > targetMs && this.#turn.busyBefore > burstMs
  }

  sample(): void {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, this.#utilization)
    this.#utilization = now
    const { waiting, answered, waitedMs } = this.#fleet.flow ?? idle
    const count = answered - this.#before.answered
    const meanMs = count > 0 ? (waitedMs - this.#before.waitedMs) / count : 0
    const at = performance.now()
    const seconds = (at - this.#sampledAt) / 1_000
    this.#sampledAt = at
    this.#limit.sample({ seconds, utilization, answered: count, meanMs, waiting: Math.max(waiting, this.#most) })
    this.#before = { answered, waitedMs }
    this.#most = 0
    this.#allowed = this.#options.latency || this.saturated ? this.limit : Number.POSITIVE_INFINITY
  }
}

/** A refusal must cost next to nothing, or refusing is what the process is busy with: no hook, no serializer. */
function refuse(
  reply: FastifyReply,
  fleet: FastifyFleet,
  headers: Readonly<Record<string, string>>,
  body: string,
): void {
  const { raw } = reply
  reply.hijack()
  if (fleet.state !== 'serving') raw.shouldKeepAlive = false
  raw.writeHead(503, headers)
  raw.end(body)
}

function describe(app: FastifyInstance, overload: Overload): void {
  if (!app.hasDecorator('metrics')) return
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
  app.decorate('overload', gate)

  const { statusCode, code, message } = new FleetError('FLEET_ERR_OVERLOADED')
  const body = JSON.stringify({ statusCode, code, message })
  const headers = {
    'content-type': 'application/json; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
    'cache-control': 'no-store',
    'retry-after': String(options.retryAfter),
    'x-instance-id': fleet.instance.id,
  }
  // Before the lifecycle's: what is refused has never begun.
  app.addHook('onRequest', (request, reply, done) => {
    const reason = gate.refuses()
    if (reason === undefined) {
      done()
      return
    }
    const { critical, probe } = routeOf(request)
    if (critical === true || probe === true) {
      done()
      return
    }
    gate.refused[reason]++
    refuse(reply, fleet, headers, body)
  })
  // The lifecycle counts what is at work. It comes after this plugin, as in the umbrella, or not at all: then only the
  // turn of the event loop decides.
  app.addHook('onReady', async () => describe(app, gate))
  const sampling = setInterval(() => gate.sample(), sampleEveryMs).unref()
  app.addHook('onClose', async () => clearInterval(sampling))
}

/** Refuses what a saturated process cannot do in time, so that what it accepts is done in time. */
export const overload: FastifyPluginAsync<OverloadOptions> = fp(plugin, { name: 'fleet-overload', fastify: '5.x' })
export default overload
