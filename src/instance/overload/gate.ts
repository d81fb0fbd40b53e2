import { performance } from 'node:perf_hooks'
import type { FastifyFleet } from 'fastify'
import { ConcurrencyLimit } from './limit.ts'
import type { OverloadOptions } from './options.ts'
import { Turn } from './turn.ts'

/** Why a request was refused: it came late in a long turn, or too many were at work. */
export type Refusal = 'turn' | 'concurrency'

const idle = { waiting: 0, answered: 0, waitedMs: 0 } as const

/** Decides about every request; what it decides by is computed by a timer. */
export class Gate {
  readonly refused: Record<Refusal, number> = { turn: 0, concurrency: 0 }
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

  /** A request has arrived, which is said once for each. Answers whether it may go on and needs no {@link Gate.decide}. */
  enter(): boolean {
    const age = this.#turn.enter()
    return !this.#crowded && this.#reason(age, this.#options.burstMs) === undefined
  }

  /** Calls one of the two: at once, or when all that had arrived have been read. */
  decide(pass: () => void, refuse: () => void): void {
    const { targetMs, burstMs } = this.#options
    const judge = (mostMs: number): void => {
      const reason = this.#reason(this.#turn.age, mostMs)
      if (reason === undefined) {
        pass()
        return
      }
      this.refused[reason]++
      refuse()
    }
    if (this.#crowded) this.#turn.hold(() => judge(targetMs))
    else judge(burstMs)
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

  /** One long turn is a pause, by a collection of garbage or by a neighbour; it takes two of them to be too much work. */
  get #crowded(): boolean {
    const { targetMs, burstMs } = this.#options
    return this.#turn.lastedBefore > targetMs && this.#turn.busyBefore > burstMs
  }

  #reason(age: number, mostMs: number): Refusal | undefined {
    const waiting = this.#fleet.flow?.waiting ?? 0
    if (waiting > this.#most) this.#most = waiting
    const { minRequests } = this.#options
    if (age > mostMs && this.#turn.requests > minRequests) return 'turn'
    return waiting >= this.#allowed && waiting >= minRequests ? 'concurrency' : undefined
  }
}
