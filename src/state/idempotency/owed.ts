import type { MemoryBounds } from './records.ts'

/** What a record could not be told while Redis was away. */
interface Debt {
  readonly pay: () => Promise<unknown>
  readonly bytes: number
  /** When the record is gone anyway, by the monotonic clock. */
  readonly until: number
  answered: boolean
}

/** How often Redis is asked whether it is back, ms. */
const retryMs = 250

/**
 * What became of requests, for as long as their records do not know it: a key whose answer, or whose release, was lost on
 * the way would stay taken for `lockMs`, and so would one that was taken by a claim whose answer was lost. It is told them
 * again until Redis has heard it. The oldest are forgotten when they are too many.
 */
export class Owed {
  readonly #bounds: MemoryBounds
  readonly #debts = new Map<string, Debt>()
  #bytes = 0
  #timer: NodeJS.Timeout | undefined

  constructor(bounds: MemoryBounds = { maxRecords: 10_000, maxBytes: 16 * 1024 * 1024 }) {
    this.#bounds = bounds
  }

  /**
   * @param token of the one who took the key
   * @param pay tells the record; rejects while Redis is away
   * @param bytes how large that is
   * @param lifeMs how long the key stays taken at most, when nobody tells anything
   */
  add(token: string, pay: () => Promise<unknown>, bytes: number, lifeMs: number): void {
    this.#drop(token)
    this.#debts.set(token, { pay, bytes, until: performance.now() + lifeMs, answered: false })
    this.#bytes += bytes
    for (const oldest of this.#debts.keys()) {
      if (this.#debts.size <= this.#bounds.maxRecords && this.#bytes <= this.#bounds.maxBytes) break
      this.#drop(oldest)
    }
    this.#payLater()
  }

  /**
   * Pays at once what is owed to the record that was taken with this token.
   *
   * @returns whether there was such a debt
   * @throws FLEET_ERR_STATE_UNAVAILABLE
   */
  async pay(token: string): Promise<boolean> {
    const debt = this.#debts.get(token)
    await debt?.pay()
    return debt !== undefined
  }

  stop(): void {
    clearTimeout(this.#timer)
    for (const token of this.#debts.keys()) this.#drop(token)
  }

  #payLater(): void {
    if (this.#timer || this.#debts.size === 0) return
    this.#timer = setTimeout(async () => {
      await this.#payAll()
      this.#timer = undefined
      this.#payLater()
    }, retryMs).unref()
  }

  /** What is paid stays known: a claim that a slow server carries out later takes the key once more. */
  async #payAll(): Promise<void> {
    for (const [token, debt] of this.#debts) {
      if (debt.until <= performance.now()) this.#drop(token)
      else if (!debt.answered) {
        try {
          await debt.pay()
          debt.answered = true
        } catch {
          return
        }
      }
    }
  }

  #drop(token: string): void {
    this.#bytes -= this.#debts.get(token)?.bytes ?? 0
    this.#debts.delete(token)
  }
}
