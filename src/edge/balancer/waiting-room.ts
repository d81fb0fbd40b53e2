import { int } from '../../base/options.ts'

export const queueOptions = {
  /** Requests that may wait for a target at once. */
  size: int(0, 1_000_000).default(1024),
  /**
   * Longest wait, for a target below its `maxConnections` or, when no target is up, for one that comes back. Once an outage
   * has lasted this long, requests are rejected at once.
   */
  timeoutMs: int(0, 3_600_000, 'milliseconds').default(5000),
}

/** Requests that wait, first come first served, until a target can take them. Bounded in number and in time. */
export class WaitingRoom {
  readonly #size: number
  readonly #waiting = new Set<Waiter>()

  /** @param size how many may wait */
  constructor(size: number) {
    this.#size = size
  }

  get length(): number {
    return this.#waiting.size
  }

  /**
   * @param ms the longest wait
   * @param done called once: with true to try again, with false when the time is over
   * @returns undefined when the queue is full, else a function that leaves the queue without calling `done`
   */
  enter(ms: number, done: (again: boolean) => void): (() => void) | undefined {
    if (this.#waiting.size >= this.#size || ms <= 0) return undefined
    const leave = (): void => {
      clearTimeout(waiter.timer)
      this.#waiting.delete(waiter)
    }
    const waiter: Waiter = {
      timer: setTimeout(() => waiter.done(false), ms),
      done: (again) => {
        leave()
        done(again)
      },
    }
    this.#waiting.add(waiter)
    return leave
  }

  /** Lets the first `count` waiters try again. A waiter that fails enters again at the end. */
  wake(count: number = this.#waiting.size): void {
    let left = count
    for (const waiter of this.#waiting) {
      if (left-- <= 0) return
      waiter.done(true)
    }
  }
}

interface Waiter {
  timer: NodeJS.Timeout
  done(again: boolean): void
}
