export interface BackoffOptions {
  /** The shortest wait, ms. @default 100 */
  baseMs?: number
  /** The longest wait, ms; a life that lasted longer than this makes the next wait a short one again. @default 30000 */
  capMs?: number
  /** A number from 0 up to 1. @default Math.random */
  random?: () => number
}

/**
 * How long to wait before something that ended is started again: "decorrelated jitter", `min(cap, random between base
 * and three times the last wait)` (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Many
 * processes that crash together for one cause do not come back together.
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
   * @param livedMs how long the thing lived this time, in milliseconds
   * @returns milliseconds to wait
   */
  next(livedMs: number): number {
    if (livedMs > this.#capMs) this.#lastMs = this.#baseMs
    const span = this.#lastMs * 3 - this.#baseMs
    this.#lastMs = Math.min(this.#capMs, Math.round(this.#baseMs + this.#random() * span))
    return this.#lastMs
  }
}
