/**
 * Milliseconds after which a value has lost 63 % of its weight. Finagle uses 10 s. But one stall of this process makes all
 * targets look slow, and until that has decayed a slow target cannot be distinguished from the others.
 */
const decayMs = 3000

/**
 * Peak-sensitive moving average of latency: rises at once to a slower response, decays exponentially with time.
 * Source: Finagle, `com.twitter.finagle.loadbalancer.PeakEwma`.
 */
export class PeakEwma {
  #value = 0
  #at = 0

  /** @param ms latency observed @param now monotonic milliseconds */
  observe(ms: number, now: number): void {
    const weight = Math.exp((this.#at - now) / decayMs)
    const decayed = this.#value * weight
    this.#value = ms > decayed ? ms : decayed + ms * (1 - weight)
    this.#at = now
  }

  /**
   * A failure counts as a slow response, so that a target that fails fast does not attract traffic: the average doubles,
   * to at least one second and at most one minute.
   */
  punish(now: number): void {
    this.#value = Math.min(60_000, Math.max(1_000, this.at(now) * 2))
    this.#at = now
  }

  /** The average in milliseconds. Without new values it decays to 0, so that the target is tried again. */
  at(now: number): number {
    return this.#value * Math.exp((this.#at - now) / decayMs)
  }
}
