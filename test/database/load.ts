import { setTimeout as sleep } from 'node:timers/promises'
import { repeat } from '../helpers/repeat.ts'
import { atEnd } from './cluster.ts'

/** Clients that repeat one operation without a pause, except after a failure. */
export class Load {
  done = 0
  readonly failures: unknown[] = []
  longestMs = 0
  slowestFailureMs = 0
  /** The longest time without a success of any client. */
  longestGapMs = 0
  /** Stops the clients. */
  readonly end: () => Promise<void>
  #lastDone = performance.now()

  constructor(clients: number, work: () => PromiseLike<unknown>) {
    this.end = repeat(clients, () => this.#iterate(work), 0)
    atEnd(() => this.end())
  }

  async #iterate(work: () => PromiseLike<unknown>): Promise<void> {
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
