import { performance } from 'node:perf_hooks'

/** Idle time between two turns from which the event loop counts as having caught up, ms. */
const minIdleMs = 1

/**
 * The current turn of the event loop, from its first request until all requests that have arrived were handled. A
 * request that is handled late in a turn has waited for all requests before it.
 *
 * Deferred requests are handled after all requests that have arrived were read, newest first. Node reads them in order
 * of arrival, so the oldest has waited for the whole previous turn and its client has probably given up; the newest has
 * hardly waited (adaptive LIFO: Maurer, "Fail at Scale", ACM Queue 2015).
 */
export class LoopTurn {
  /** Length of the previous turn; 0 after an idle moment. */
  previousMs = 0
  #active = false
  #startedAt = 0
  #requests = 0
  #previousRequests = 0
  #busySince = performance.now()
  #idleMs = performance.eventLoopUtilization().idle
  readonly #deferred: (() => void)[] = []

  /** Requests handled in this turn, or in the previous one if those were more. */
  get requests(): number {
    return Math.max(this.#requests, this.#previousRequests)
  }

  /** Time without an idle moment before this turn began. */
  get busyMs(): number {
    return this.#startedAt - this.#busySince
  }

  /** Time since this turn began. */
  get ageMs(): number {
    return performance.now() - this.#startedAt
  }

  /** Counts a request that has arrived; called once for each. @returns {@link LoopTurn.ageMs} */
  enter(): number {
    this.#requests++
    if (this.#active) return this.ageMs
    const now = performance.now()
    this.#active = true
    this.#startedAt = now
    const { idle } = performance.eventLoopUtilization()
    if (idle - this.#idleMs >= minIdleMs) {
      this.#busySince = now
      this.previousMs = 0
      this.#previousRequests = 0
    }
    this.#idleMs = idle
    setImmediate(this.#end)
    return 0
  }

  /** Handles a request after all requests that have arrived were read. */
  defer(handle: () => void): void {
    // Counted again when it is handled.
    this.#requests--
    this.#deferred.push(handle)
    // One immediate each, so that a request's synchronous work and microtasks end before the next request starts.
    setImmediate(this.#handleNewest)
  }

  readonly #handleNewest = (): void => {
    this.#requests++
    try {
      this.#deferred.pop()?.()
    } finally {
      this.#end()
    }
  }

  readonly #end = (): void => {
    if (this.#deferred.length > 0) return
    this.#active = false
    this.previousMs = this.ageMs
    this.#previousRequests = this.#requests
    this.#requests = 0
  }
}
