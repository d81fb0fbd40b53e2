/**
 * Peak-sensitive moving average of latency: rises at once to a slower response, decays exponentially with time.
 * Source: Finagle, `com.twitter.finagle.loadbalancer.PeakEwma`.
 */
export class PeakEwma {
  readonly #decayMs: number
  #value = 0
  #at = 0

  /** @param decayMs milliseconds after which a value has lost 63 % of its weight; default 10,000, as in Finagle */
  constructor(decayMs = 10_000) {
    this.#decayMs = decayMs
  }

  /** @param ms latency observed @param now monotonic milliseconds */
  observe(ms: number, now: number): void {
    const weight = Math.exp((this.#at - now) / this.#decayMs)
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
    return this.#value * Math.exp((this.#at - now) / this.#decayMs)
  }
}
