/**
 * Bounds the extra load from retries, so that retries cannot turn an overload into a collapse. Each request deposits a
 * share of a token, each retry withdraws a whole one, and a minimum rate keeps retries possible under low traffic.
 * Source: Finagle, `com.twitter.finagle.service.RetryBudget`; here as a token bucket with a ten-second window.
 */
export class RetryBudget {
  readonly #share: number
  readonly #perSecond: number
  #tokens: number
  #at: number

  /**
   * @param share retries per request, 0 to 1
   * @param perSecond retries per second that are allowed in any case
   */
  constructor(share: number, perSecond: number, now: number) {
    this.#share = share
    this.#perSecond = perSecond
    this.#tokens = perSecond * 10
    this.#at = now
  }

  deposit(): void {
    this.#tokens += this.#share
  }

  /** @returns whether a retry is allowed; if so, it is charged */
  withdraw(now: number = performance.now()): boolean {
    const seconds = (now - this.#at) / 1000
    this.#at = now
    // Tokens decay with a time constant of ten seconds, so that a quiet hour does not fund a retry storm.
    this.#tokens = this.#tokens * Math.exp(-seconds / 10) + this.#perSecond * 10 * (1 - Math.exp(-seconds / 10))
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
