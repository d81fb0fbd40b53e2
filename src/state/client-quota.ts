import type { FastifyRequest } from 'fastify'
import { detached } from '../base/detached.ts'
import { clientKey } from '../instance/client-key.ts'

const windowMs = 60_000

export interface ClientQuotaLimits {
  readonly perMinute: number
  readonly totalPerMinute: number
}

/**
 * Called when a request is over its quota.
 *
 * @param client key of the client; `undefined` when all clients together have reached the limit
 * @param isFirst whether it is the first such request of this minute
 */
export type QuotaExceeded = (client: string | undefined, isFirst: boolean) => void

/**
 * Limits what the clients of this process may do per minute, for each client and in total. It counts in memory and not in
 * Redis, because a rejection must cost nothing during an attack. It uses the monotonic clock, so setting the system time
 * does not reset it.
 */
export class ClientQuota {
  readonly #limits: ClientQuotaLimits
  readonly #exceeded: QuotaExceeded
  /** At most `totalPerMinute` entries: only admitted clients get one. */
  readonly #clients = new Map<string, number>()
  /** A request counts once, however often `admits()` is called for it. */
  readonly #requests = new WeakMap<FastifyRequest, boolean>()
  #total = 0
  #ends = 0
  #hasRejected = false

  constructor(limits: ClientQuotaLimits, exceeded: QuotaExceeded) {
    this.#limits = limits
    this.#exceeded = exceeded
  }

  admits(request: FastifyRequest): boolean {
    let isAdmitted = this.#requests.get(request)
    if (isAdmitted === undefined) {
      isAdmitted = this.#count(request)
      this.#requests.set(request, isAdmitted)
    }
    return isAdmitted
  }

  #count(request: FastifyRequest): boolean {
    // A request without a socket was made by the app itself, e.g. for `app.decryptSession()`.
    if (!request.socket) return true
    const now = performance.now()
    if (now >= this.#ends) this.#startWindow(now)
    const key = clientKey(request)
    const count = this.#clients.get(key) ?? 0
    const isFull = this.#total >= this.#limits.totalPerMinute
    if (isFull || count >= this.#limits.perMinute) {
      this.#exceeded(isFull ? undefined : key, !this.#hasRejected)
      this.#hasRejected = true
      return false
    }
    this.#clients.set(count === 0 ? detached(key) : key, count + 1)
    this.#total++
    return true
  }

  #startWindow(now: number): void {
    this.#clients.clear()
    this.#total = 0
    this.#ends = now + windowMs
    this.#hasRejected = false
  }
}
