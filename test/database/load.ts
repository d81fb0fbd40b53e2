import { setTimeout as sleep } from 'node:timers/promises'
import { atEnd } from './cluster.ts'

/** Some who do the same again and again, each when it is done with the last; who fails tries again after a moment. */
export class Load {
  done = 0
  readonly failures: unknown[] = []
  longestMs = 0
  slowestFailureMs = 0
  /** The longest time in which nobody succeeded. */
  longestGapMs = 0
  #lastDone = performance.now()
  #going = true
  readonly #workers: Promise<void>[]

  constructor(workers: number, work: () => PromiseLike<unknown>) {
    this.#workers = Array.from({ length: workers }, () => this.#run(work))
    atEnd(() => this.end())
  }

  async #run(work: () => PromiseLike<unknown>): Promise<void> {
    while (this.#going) {
      const since = performance.now()
      try {
        await work()
        this.done++
        this.longestGapMs = Math.max(this.longestGapMs, Math.round(performance.now() - this.#lastDone))
        this.#lastDone = performance.now()
        this.longestMs = Math.max(this.longestMs, Math.round(performance.now() - since))
      } catch (error) {
        this.failures.push(error)
        this.slowestFailureMs = Math.max(this.slowestFailureMs, Math.round(performance.now() - since))
        await sleep(20)
      }
    }
  }

  async end(): Promise<void> {
    this.#going = false
    await Promise.all(this.#workers)
  }
}
