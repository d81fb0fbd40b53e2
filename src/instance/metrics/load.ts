import { performance } from 'node:perf_hooks'
import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { bool } from '../../base/options.ts'
import { readRouteConfig } from '../../base/route-config.ts'
import { fleetPlugin } from '../compat/index.ts'
import { identity } from '../identity.ts'
import type { ShedRequest } from '../overload/fast-reject.ts'
import { bucketCount, bucketOf, percentile } from './latency-scale.ts'

/** Figures of the last ten full seconds. */
export interface Load {
  /** Requests per second. */
  rps: number
  /** Share of responses with status 5xx, 0 to 1. */
  errorRate: number
  /** Percentiles of the response time in milliseconds, accurate to about 7 %. */
  p50: number
  p95: number
  p99: number
  /** Share of the last second in which the event loop was busy, 0 to 1. */
  eventLoopUtilization: number
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Rate, latency and event loop of the last 10 s. */
    load: LoadMeter
  }
  interface FastifyContextConfig {
    /** Probes do not count in the load figures, where they would outweigh the traffic of a quiet instance. */
    probe?: boolean
  }
}

const seconds = 10

/** Called for each response, and for each request that is shed before Fastify sees it. */
type ResponseListener = (request: ShedRequest | FastifyRequest, status: number, ms: number) => void

/**
 * Rate and latency over a sliding window of 10 s: a ring of one histogram per second with exponential buckets. An
 * observation is an increment, and percentiles are computed on read.
 */
export class LoadMeter {
  readonly #ring: Uint32Array[] = Array.from({ length: seconds + 1 }, () => new Uint32Array(bucketCount))
  readonly #errors = new Uint32Array(seconds + 1)
  #slot = 0
  #full = 0
  #utilization = 0
  #delayMs = 0
  #tickedAt = performance.now()
  #last = performance.eventLoopUtilization()
  #totals = { requests: 0, errors: 0 }
  /** Set by the plugin that keeps the history of the fleet. @internal */
  listener: ResponseListener | undefined

  observe(ms: number, failed: boolean): void {
    const second = this.#ring[this.#slot] as Uint32Array
    const bucket = bucketOf(ms)
    second[bucket] = (second[bucket] as number) + 1
    this.#totals.requests++
    if (failed) {
      this.#errors[this.#slot] = (this.#errors[this.#slot] as number) + 1
      this.#totals.errors++
    }
  }

  /** Starts the current second anew. Called when the boot is over, which blocks the event loop and says nothing about it. */
  begin(): void {
    this.#tickedAt = performance.now()
    this.#last = performance.eventLoopUtilization()
  }

  /** Starts the next second. Called by a timer once per second; its delay is the event loop's delay. */
  tick(): void {
    const at = performance.now()
    this.#delayMs = Math.max(0, at - this.#tickedAt - 1_000)
    this.#tickedAt = at
    const now = performance.eventLoopUtilization()
    this.#utilization = performance.eventLoopUtilization(now, this.#last).utilization
    this.#last = now
    this.#slot = (this.#slot + 1) % this.#ring.length
    this.#ring[this.#slot]?.fill(0)
    this.#errors[this.#slot] = 0
    this.#full = Math.min(seconds, this.#full + 1)
  }

  /** Counts since the process start. */
  get totals(): { readonly requests: number; readonly errors: number } {
    return this.#totals
  }

  get eventLoopUtilization(): number {
    return round(this.#utilization, 1_000)
  }

  /** Delay of the last tick, in milliseconds. */
  get eventLoopDelayMs(): number {
    return this.#delayMs
  }

  read(): Load {
    const sums = new Uint32Array(bucketCount)
    let requests = 0
    let errors = 0
    for (let back = 1; back <= this.#full; back++) {
      const slot = (this.#slot - back + this.#ring.length) % this.#ring.length
      errors += this.#errors[slot] as number
      const second = this.#ring[slot] as Uint32Array
      for (let bucket = 0; bucket < bucketCount; bucket++) {
        const count = second[bucket] as number
        if (count > 0) {
          sums[bucket] = (sums[bucket] as number) + count
          requests += count
        }
      }
    }
    const time = (share: number): number => (requests === 0 ? 0 : percentile(sums, requests, share))
    return {
      rps: this.#full === 0 ? 0 : round(requests / this.#full, 10),
      errorRate: requests === 0 ? 0 : round(errors / requests, 10_000),
      p50: time(0.5),
      p95: time(0.95),
      p99: time(0.99),
      eventLoopUtilization: this.eventLoopUtilization,
    }
  }
}

const round = (value: number, precision: number): number => Math.round(value * precision) / precision

const plugin: FastifyPluginAsync = async (app) => {
  await ensure(app, identity)
  const load = new LoadMeter()
  app.decorate('load', load)
  app.fleet.contribute(() => {
    const { rps, errorRate, p95, eventLoopUtilization } = load.read()
    return { rps, errorRate, p95, eventLoopUtilization }
  })
  app.addHook('onRoute', (route) => void readRouteConfig(route, 'probe', bool))
  app.addHook('onResponse', (request, reply, done) => {
    if (request.routeOptions.config.probe !== true) {
      const { elapsedTime, statusCode } = reply
      load.observe(elapsedTime, statusCode >= 500)
      load.listener?.(request, statusCode, elapsedTime)
    }
    done()
  })
  if (app.hasPlugin('fleet-overload')) {
    app.overload.onRefused((request, ms) => {
      load.observe(ms, true)
      load.listener?.(request, 503, ms)
    })
  }
  let ticking: NodeJS.Timeout | undefined
  const begin = (): void => {
    clearInterval(ticking)
    load.begin()
    ticking = setInterval(() => load.tick(), 1_000).unref()
  }
  app.addHook('onReady', async () => begin())
  app.addHook('onListen', async () => begin())
  app.addHook('onClose', async () => clearInterval(ticking))
}

/** Decorates `app.load`. */
export const load: FastifyPluginAsync = fleetPlugin('load', plugin)
