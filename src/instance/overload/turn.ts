import { performance } from 'node:perf_hooks'

/** An event loop that waits this long for something to do has done all there was, ms. */
const idleMs = 1

/**
 * The running turn of the event loop, as far as requests have a part in it: it begins with the first of them and ends
 * when all that had arrived have been looked at. What is worked off late in a turn has waited for all before it.
 */
export class Turn {
  #open = false
  #began = 0
  #requests = 0
  #requestsBefore = 0
  #lastedBefore = 0
  #busySince = performance.now()
  #idle = performance.eventLoopUtilization().idle

  /** How many requests were looked at in it, or in the turn before where those were more. */
  get requests(): number {
    return Math.max(this.#requests, this.#requestsBefore)
  }

  /** How many milliseconds the turn before this one lasted; 0 after an idle moment. */
  get lastedBefore(): number {
    return this.#lastedBefore
  }

  /** For how many milliseconds the event loop had had no idle moment when the turn began. */
  get busyBefore(): number {
    return this.#began - this.#busySince
  }

  /** How long the turn has lasted, in milliseconds. To be asked for every request. */
  age(): number {
    this.#requests++
    const now = performance.now()
    if (this.#open) return now - this.#began
    this.#open = true
    this.#began = now
    const { idle } = performance.eventLoopUtilization()
    if (idle - this.#idle >= idleMs) {
      this.#busySince = now
      this.#lastedBefore = 0
      this.#requestsBefore = 0
    }
    this.#idle = idle
    setImmediate(this.#end)
    return 0
  }

  readonly #end = (): void => {
    this.#open = false
    this.#lastedBefore = performance.now() - this.#began
    this.#requestsBefore = this.#requests
    this.#requests = 0
  }
}
