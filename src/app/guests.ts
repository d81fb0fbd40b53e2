import { FleetError } from '../index.ts'

export interface GuestLimits {
  /** Connections of one client, and of all, on this instance. */
  readonly perClient: number
  readonly all: number
}

/** Counts what stays open, by client. */
export class Guests {
  readonly #limits: GuestLimits
  readonly #open = new Map<string, number>()
  #all = 0

  constructor(limits: GuestLimits) {
    this.#limits = limits
  }

  /** @throws FLEET_ERR_RATE_LIMITED */
  check(client: string): void {
    if (this.#all < this.#limits.all && (this.#open.get(client) ?? 0) < this.#limits.perClient) return
    throw new FleetError('FLEET_ERR_RATE_LIMITED', 'too many open connections; close some', { retryAfter: 10 })
  }

  /**
   * @returns what is called, once or more often, when the connection has ended
   * @throws FLEET_ERR_RATE_LIMITED
   */
  enter(client: string): () => void {
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

/** So many at once, and from then on so many per second. */
export class Allowance {
  readonly #most: number
  readonly #perSecond: number
  #left: number
  #at = performance.now()

  constructor(most: number, perSecond: number) {
    this.#most = most
    this.#perSecond = perSecond
    this.#left = most
  }

  take(): boolean {
    const now = performance.now()
    this.#left = Math.min(this.#most, this.#left + ((now - this.#at) * this.#perSecond) / 1000)
    this.#at = now
    if (this.#left < 1) return false
    this.#left--
    return true
  }
}
