import { performance } from 'node:perf_hooks'

/** An event loop that waits this long for something to do has done all there was, ms. */
const idleMs = 1

/**
 * The running turn of the event loop, as far as requests have a part in it: it begins with the first of them and ends
 * when all that had arrived have been looked at. What is worked off late in a turn has waited for all before it.
 *
 * Those that are held are worked off when all that had arrived have been read, the last one first. Node reads them in the
 * order in which they came, so the first has waited for the whole turn before, and would be done when its client has long
 * given up; the last has waited for next to nothing (adaptive LIFO: Maurer, "Fail at Scale", ACM Queue 2015).
 */
export class Turn {
  #open = false
  #began = 0
  #requests = 0
  #requestsBefore = 0
  #lastedBefore = 0
  #busySince = performance.now()
  #idle = performance.eventLoopUtilization().idle
  readonly #held: (() => void)[] = []

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

  /** How long the turn has lasted, in milliseconds. */
  get age(): number {
    return performance.now() - this.#began
  }

  /** A request has arrived; to be called once for each. Answers {@link Turn.age}. */
  enter(): number {
    this.#requests++
    if (this.#open) return this.age
    const now = performance.now()
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

  /** Has a request wait until all that had arrived have been read. */
  hold(begin: () => void): void {
    // It is looked at when its turn comes.
    this.#requests--
    this.#held.push(begin)
    // One for each: what a request does without waiting is done before the next begins.
    setImmediate(this.#next)
  }

  readonly #next = (): void => {
    this.#requests++
    try {
      this.#held.pop()?.()
    } finally {
      this.#end()
    }
  }

  readonly #end = (): void => {
    if (this.#held.length > 0) return
    this.#open = false
    this.#lastedBefore = this.age
    this.#requestsBefore = this.#requests
    this.#requests = 0
  }
}
