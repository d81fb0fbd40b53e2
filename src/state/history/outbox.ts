import type { NewEvent } from './events.ts'
import type { HistoryStore, RecordOptions } from './store.ts'

/** Largest number of events that wait for Redis. */
export const maxWaiting = 100

/** Records events in their order. While Redis is unavailable the newest wait, with the time at which they happened. */
export class Outbox {
  readonly #store: HistoryStore
  readonly #now: () => number
  readonly #waiting: { readonly event: NewEvent; readonly options: RecordOptions }[] = []
  #sending: Promise<void> | undefined

  constructor(store: HistoryStore, now: () => number) {
    this.#store = store
    this.#now = now
  }

  add(event: NewEvent, options: RecordOptions = {}): void {
    this.#waiting.push({ event: { ...event, at: this.#now() }, options })
    if (this.#waiting.length > maxWaiting) this.#waiting.shift()
    void this.send()
  }

  /** Sends what waits. Resolves when all is sent, or one cannot be. Never rejects. */
  async send(): Promise<void> {
    if (this.#waiting.length > 0) this.#sending ??= this.#send()
    await this.#sending
  }

  async #send(): Promise<void> {
    try {
      for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
        await this.#store.record(next.event, next.options)
        if (this.#waiting[0] === next) this.#waiting.shift()
      }
    } catch {
      // The next call tries again.
    } finally {
      this.#sending = undefined
    }
  }
}
