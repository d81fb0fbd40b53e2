import type { StoreBounds } from './store.ts'

interface PendingWrite {
  readonly write: () => Promise<unknown>
  readonly bytes: number
  /** When the record has expired anyway, by the monotonic clock. */
  readonly until: number
  done: boolean
}

const retryMs = 250

/**
 * Results of requests that could not be written to their records because Redis was unavailable. They are retried until Redis
 * accepts them; without that, the key of a completed or released request would stay locked for `lockMs`, as would one whose
 * claim was carried out but whose reply was lost. Beyond the bounds the oldest are dropped.
 */
export class PendingWrites {
  readonly #bounds: StoreBounds
  readonly #writes = new Map<string, PendingWrite>()
  #bytes = 0
  #timer: NodeJS.Timeout | undefined

  constructor(bounds: StoreBounds = { maxRecords: 10_000, maxBytes: 16 * 1024 * 1024 }) {
    this.#bounds = bounds
  }

  /**
   * @param token of the record's owner
   * @param write updates the record; rejects while Redis is unavailable
   * @param bytes size of the update
   * @param lifeMs after this time the record has expired without the update
   */
  add(token: string, write: () => Promise<unknown>, bytes: number, lifeMs: number): void {
    this.#drop(token)
    this.#writes.set(token, { write, bytes, until: performance.now() + lifeMs, done: false })
    this.#bytes += bytes
    for (const oldest of this.#writes.keys()) {
      if (this.#writes.size <= this.#bounds.maxRecords && this.#bytes <= this.#bounds.maxBytes) break
      this.#drop(oldest)
    }
    this.#flushLater()
  }

  /**
   * Performs the pending write of this token now.
   *
   * @returns whether there was one
   * @throws FLEET_ERR_STATE_UNAVAILABLE
   */
  async flush(token: string): Promise<boolean> {
    const pending = this.#writes.get(token)
    await pending?.write()
    return pending !== undefined
  }

  stop(): void {
    clearTimeout(this.#timer)
    for (const token of this.#writes.keys()) this.#drop(token)
  }

  #flushLater(): void {
    if (this.#timer || this.#writes.size === 0) return
    this.#timer = setTimeout(async () => {
      await this.#flushAll()
      this.#timer = undefined
      this.#flushLater()
    }, retryMs).unref()
  }

  /** Completed writes are kept until they expire: a slow server may carry out the claim after the write. */
  async #flushAll(): Promise<void> {
    for (const [token, pending] of this.#writes) {
      if (pending.until <= performance.now()) this.#drop(token)
      else if (!pending.done) {
        try {
          await pending.write()
          pending.done = true
        } catch {
          return
        }
      }
    }
  }

  #drop(token: string): void {
    this.#bytes -= this.#writes.get(token)?.bytes ?? 0
    this.#writes.delete(token)
  }
}
