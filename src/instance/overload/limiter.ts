import { performance } from 'node:perf_hooks'
import type { FastifyFleet } from 'fastify'
import { bool, int, type Resolved } from '../../base/options.ts'
import { LoopTurn } from './loop-turn.ts'

/** Measurements of one sampling interval. */
export interface Sample {
  /** Length of the interval. */
  readonly seconds: number
  /** Share of the interval in which the event loop was busy, 0 to 1. */
  readonly utilization: number
  /** Responses that started in the interval, and their mean time to that point in ms. */
  readonly responses: number
  readonly meanMs: number
  /** Largest number of requests without a response. */
  readonly waiting: number
}

/** Utilization that counts as saturated; the rest is the time in which timers are checked. */
const saturation = 0.98
/** Consecutive saturated samples until the process counts as saturated. A burst or a garbage collection is shorter. */
const saturatedSamples = 2
/** Fewer responses than this do not change the limit. */
const minResponses = 10
/** Samples after which the best mean time is discarded: five minutes at 250 ms. Two periods overlap. */
const bestMeanSamples = 1_200
/** Samples over which the best rate is kept: ten seconds. */
const bestRateSamples = 40
const minLimit = 4
const maxLimit = 10_000
const smoothing = 0.5

/**
 * The number of requests that this process should have in flight, derived from how long they take. This is the gradient
 * limit of Netflix' concurrency-limits, which goes back to TCP Vegas (Brakmo, O'Malley and Peterson, SIGCOMM 1994).
 *
 * The limit grows by its square root while the mean time of an interval exceeds the best mean of recent minutes by at
 * most `targetMs`. Beyond that it shrinks in proportion, at most by half. It does not grow while fewer than half of it
 * is in use, because an unused limit has not been tested. By Little's law it never falls below the best recent rate
 * times the accepted time, as in BBR (Cardwell et al., ACM Queue 2016): if responses are slow for another reason, such
 * as a busy machine, fewer requests in flight would only mean fewer responses.
 */
export class ConcurrencyLimit {
  readonly #targetMs: number
  value = 20
  #bestMeanMs = Number.POSITIVE_INFINITY
  #previousBestMeanMs = Number.POSITIVE_INFINITY
  #samples = 0
  #saturated = 0
  readonly #rates: number[] = []

  /** @param targetMs accepted wait of a request beyond its usual time */
  constructor(targetMs: number) {
    this.#targetMs = targetMs
  }

  /** Whether the event loop has had no idle moment for at least half a second. */
  get saturated(): boolean {
    return this.#saturated >= saturatedSamples
  }

  sample({ seconds, utilization, responses, meanMs, waiting }: Sample): void {
    this.#saturated = utilization >= saturation ? this.#saturated + 1 : 0
    if (++this.#samples % bestMeanSamples === 0) {
      this.#previousBestMeanMs = this.#bestMeanMs
      this.#bestMeanMs = Number.POSITIVE_INFINITY
    }
    this.#rates.push(responses / seconds)
    if (this.#rates.length > bestRateSamples) this.#rates.shift()
    if (responses < minResponses) return
    this.#bestMeanMs = Math.min(this.#bestMeanMs, meanMs)
    const acceptedMs = Math.min(this.#bestMeanMs, this.#previousBestMeanMs) + this.#targetMs
    const gradient = Math.max(0.5, Math.min(1, acceptedMs / meanMs))
    const wanted = this.value * gradient + Math.sqrt(this.value)
    if (wanted > this.value && waiting < this.value / 2) return
    const next = this.value * (1 - smoothing) + wanted * smoothing
    const needed = (Math.max(...this.#rates) * acceptedMs) / 1_000
    this.value = Math.max(minLimit, Math.min(maxLimit, Math.max(next, needed)))
  }
}

/** Why a request was shed: late in a long turn of the event loop, or too many requests in flight. */
export type ShedReason = 'turn' | 'concurrency'

/** @internal */
export const limiterOptions = {
  /** Longest wait of a request, beyond its usual time, while the process is saturated. */
  targetMs: int(1, 10_000, 'milliseconds').default(20),
  /** Time without an idle moment of the event loop before `targetMs` applies, and longest turn until then. */
  burstMs: int(10, 60_000, 'milliseconds').default(500),
  /**
   * Never shed load at or below this number of requests, in flight or in this turn and the previous one. A process that
   * shares its cores may be slow with three clients, and shedding would not make it faster.
   */
  minRequests: int(1, 10_000).default(20),
  /**
   * Apply the concurrency limit at all times, not only while the event loop is saturated. For work whose bottleneck is
   * elsewhere, such as a pool or another service. It cannot tell a saturated service from a slow one.
   */
  latency: bool.default(false),
}
type LimiterOptions = Resolved<typeof limiterOptions>

const noFlow = { waiting: 0, responses: 0, waitedMs: 0 } as const

/** Decides for each request whether it is admitted or shed. A timer updates the limit; see {@link Limiter.sample}. */
export class Limiter {
  readonly refused: Record<ShedReason, number> = { turn: 0, concurrency: 0 }
  readonly #options: LimiterOptions
  readonly #fleet: FastifyFleet
  readonly #turn = new LoopTurn()
  readonly #limit: ConcurrencyLimit
  /** The limit while it applies, else infinity. */
  #allowed: number
  #utilization = performance.eventLoopUtilization()
  #previous = { responses: 0, waitedMs: 0 }
  #maxWaiting = 0
  #sampledAt = performance.now()

  constructor(fleet: FastifyFleet, options: LimiterOptions) {
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

  /**
   * Counts a request; called once for each.
   *
   * @returns whether it is admitted; otherwise {@link Limiter.decide} decides
   */
  admit(): boolean {
    const turnMs = this.#turn.enter()
    return !this.#isOverloaded && this.#shedReason(turnMs, this.#options.burstMs) === undefined
  }

  /** Calls one of the functions, immediately or after all requests that have arrived were read. */
  decide(admit: () => void, shed: () => void): void {
    const { targetMs, burstMs } = this.#options
    const decideWithin = (maxTurnMs: number): void => {
      const reason = this.#shedReason(this.#turn.ageMs, maxTurnMs)
      if (reason === undefined) {
        admit()
        return
      }
      this.refused[reason]++
      shed()
    }
    if (this.#isOverloaded) this.#turn.defer(() => decideWithin(targetMs))
    else decideWithin(burstMs)
  }

  /** Updates the limit from the figures since the last call. */
  sample(): void {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, this.#utilization)
    this.#utilization = now
    const { waiting, responses, waitedMs } = this.#fleet.flow ?? noFlow
    const count = responses - this.#previous.responses
    const meanMs = count > 0 ? (waitedMs - this.#previous.waitedMs) / count : 0
    const at = performance.now()
    const seconds = (at - this.#sampledAt) / 1_000
    this.#sampledAt = at
    this.#limit.sample({
      seconds,
      utilization,
      responses: count,
      meanMs,
      waiting: Math.max(waiting, this.#maxWaiting),
    })
    this.#previous = { responses, waitedMs }
    this.#maxWaiting = 0
    this.#allowed = this.#options.latency || this.saturated ? this.limit : Number.POSITIVE_INFINITY
  }

  /** One long turn can be a garbage collection or a busy neighbour, so overload takes two of them. */
  get #isOverloaded(): boolean {
    const { targetMs, burstMs } = this.#options
    return this.#turn.previousMs > targetMs && this.#turn.busyMs > burstMs
  }

  #shedReason(turnMs: number, maxTurnMs: number): ShedReason | undefined {
    const waiting = this.#fleet.flow?.waiting ?? 0
    if (waiting > this.#maxWaiting) this.#maxWaiting = waiting
    const { minRequests } = this.#options
    if (turnMs > maxTurnMs && this.#turn.requests > minRequests) return 'turn'
    return waiting >= this.#allowed && waiting >= minRequests ? 'concurrency' : undefined
  }
}
