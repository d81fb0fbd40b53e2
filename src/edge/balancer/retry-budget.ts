/**
 * Bounds the extra work that retries make, so that they cannot turn an overload into a collapse: each request pays in
 * a share of a retry, each retry takes out a whole one, and a floor keeps retries possible at low rates.
 * Source: Finagle, `com.twitter.finagle.service.RetryBudget`; here as a token bucket that holds ten seconds.
 */
export class RetryBudget {
  readonly #share: number
  readonly #perSecond: number
  #tokens: number
  #at: number

  /**
   * @param share retries per request, 0 to 1
   * @param perSecond retries per second that are always allowed
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

  /** True when a retry may be made, which it then pays for. */
  withdraw(now: number): boolean {
    const seconds = (now - this.#at) / 1000
    this.#at = now
    // What was saved up fades with a time constant of ten seconds, so a quiet hour does not pay for a storm.
    this.#tokens = this.#tokens * Math.exp(-seconds / 10) + this.#perSecond * 10 * (1 - Math.exp(-seconds / 10))
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
