import { FleetError } from '../index.ts'

export interface Limits {
  /** Limits of connections on this instance, per client and in total. */
  readonly perClient: number
  readonly all: number
}

/** Counts long-lived connections per client. */
export class ConnectionLimits {
  readonly #limits: Limits
  readonly #open = new Map<string, number>()
  #all = 0

  constructor(limits: Limits) {
    this.#limits = limits
  }

  /** @throws FLEET_ERR_RATE_LIMITED */
  check(client: string): void {
    if (this.#all < this.#limits.all && (this.#open.get(client) ?? 0) < this.#limits.perClient) return
    throw new FleetError('FLEET_ERR_RATE_LIMITED', 'too many open connections; close some', { retryAfter: 10 })
  }

  /**
   * @returns a function that releases the connection; repeated calls have no effect
   * @throws FLEET_ERR_RATE_LIMITED
   */
  acquire(client: string): () => void {
    this.check(client)
    this.#all++
    this.#open.set(client, (this.#open.get(client) ?? 0) + 1)
    let left = false
    return () => {
      if (left) return
      left = true
      this.#all--
      const open = (this.#open.get(client) ?? 1) - 1
      if (open > 0) this.#open.set(client, open)
      else this.#open.delete(client)
    }
  }
}

/** A token bucket: a burst at once, then a number per second. */
export class TokenBucket {
  readonly #burst: number
  readonly #perSecond: number
  #tokens: number
  #at = performance.now()

  constructor(burst: number, perSecond: number) {
    this.#burst = burst
    this.#perSecond = perSecond
    this.#tokens = burst
  }

  take(): boolean {
    const now = performance.now()
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#at) * this.#perSecond) / 1000)
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
