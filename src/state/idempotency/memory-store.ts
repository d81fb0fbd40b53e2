import type { Claim, IdempotencyStore, StoreBounds } from './store.ts'

interface IdempotencyRecord {
  readonly print: string
  /** `undefined` once completed. */
  readonly token?: string
  readonly response?: string
  readonly expiresAt: number
}

/** Records in the memory of one process. Beyond the bounds the oldest are dropped. */
export class MemoryIdempotencyStore implements IdempotencyStore {
  readonly #bounds: StoreBounds
  readonly #records = new Map<string, IdempotencyRecord>()
  #bytes = 0

  constructor(bounds: StoreBounds = { maxRecords: 50_000, maxBytes: 64 * 1024 * 1024 }) {
    this.#bounds = bounds
  }

  get size(): number {
    return this.#records.size
  }

  async claim(key: string, print: string, token: string, lockMs: number): Promise<Claim> {
    const known = this.#get(key)
    if (!known) {
      this.#set(key, { print, token, expiresAt: performance.now() + lockMs })
      return { status: 'first' }
    }
    if (known.print !== print) return { status: 'other_request' }
    return known.token !== undefined
      ? { status: 'in_flight', token: known.token }
      : { status: 'completed', response: known.response ?? '' }
  }

  async renew(key: string, print: string, token: string, lockMs: number): Promise<void> {
    if (this.#isOwner(key, print, token)) this.#set(key, { print, token, expiresAt: performance.now() + lockMs })
  }

  async complete(key: string, print: string, token: string, response: string, ttlMs: number): Promise<boolean> {
    const isOwner = this.#isOwner(key, print, token)
    if (isOwner) this.#set(key, { print, response, expiresAt: performance.now() + ttlMs })
    return isOwner
  }

  async release(key: string, print: string, token: string): Promise<void> {
    if (this.#isOwner(key, print, token)) this.#delete(key)
  }

  #isOwner(key: string, print: string, token: string): boolean {
    const known = this.#get(key)
    return known?.print === print && known.token === token
  }

  #get(key: string): IdempotencyRecord | undefined {
    const known = this.#records.get(key)
    if (known && known.expiresAt <= performance.now()) this.#delete(key)
    else return known
    return undefined
  }

  #set(key: string, record: IdempotencyRecord): void {
    this.#delete(key)
    this.#records.set(key, record)
    this.#bytes += record.response?.length ?? 0
    const now = performance.now()
    for (const [oldest, { expiresAt }] of this.#records) {
      const full = this.#records.size > this.#bounds.maxRecords || this.#bytes > this.#bounds.maxBytes
      if (expiresAt > now && !full) break
      this.#delete(oldest)
    }
  }

  #delete(key: string): void {
    this.#bytes -= this.#records.get(key)?.response?.length ?? 0
    this.#records.delete(key)
  }
}
