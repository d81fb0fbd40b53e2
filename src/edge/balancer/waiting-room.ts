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
   * @param ms how long to wait at most
   * @param done called once, with true when it is worth trying again, with false when the time is over
   * @returns undefined when nobody else may wait, else a function that leaves without a word
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

  /** Lets the first `count` try again; those who fail enter anew, at the end. */
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
