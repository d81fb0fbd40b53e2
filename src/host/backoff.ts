export interface BackoffOptions {
  /** Shortest delay, ms. @default 100 */
  baseMs?: number
  /** Longest delay, ms. An uptime longer than this resets the delay to `baseMs`. @default 30000 */
  capMs?: number
  /** A number from 0 up to 1. @default Math.random */
  random?: () => number
}

/**
 * Restart delays with "decorrelated jitter": `min(cap, random between base and three times the last delay)` (Marc Brooker,
 * "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Processes that crash together do not restart together.
 */
export class Backoff {
  readonly #baseMs: number
  readonly #capMs: number
  readonly #random: () => number
  #lastMs: number

  constructor({ baseMs = 100, capMs = 30_000, random = Math.random }: BackoffOptions = {}) {
    this.#baseMs = baseMs
    this.#capMs = capMs
    this.#random = random
    this.#lastMs = baseMs
  }

  /**
   * @param uptimeMs how long the process ran this time, in milliseconds
   * @returns delay in milliseconds
   */
  next(uptimeMs: number): number {
    if (uptimeMs > this.#capMs) this.#lastMs = this.#baseMs
    const span = this.#lastMs * 3 - this.#baseMs
    this.#lastMs = Math.min(this.#capMs, Math.round(this.#baseMs + this.#random() * span))
    return this.#lastMs
  }
}
