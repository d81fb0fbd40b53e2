import { randomUUID } from 'node:crypto'
import { FleetError } from '../../base/errors.ts'
import type { LockStore } from './store.ts'

/** Clocks of two machines may differ in speed by this share: the holder counts its lease as that much shorter. */
const drift = 0.02

/** A lock and its holder. It is renewed three times per `ttlMs` until it is released or lost. */
export class Lease {
  readonly token: number
  readonly #store: LockStore
  readonly #name: string
  readonly #owner: string
  readonly #ttlMs: number
  readonly #abort = new AbortController()
  #lost = false
  #released = false
  #renewal: NodeJS.Timeout | undefined
  #deadline: NodeJS.Timeout | undefined

  private constructor(store: LockStore, name: string, owner: string, ttlMs: number, token: number, since: number) {
    this.token = token
    this.#store = store
    this.#name = name
    this.#owner = owner
    this.#ttlMs = ttlMs
    this.#extend(since)
  }

  /** @returns the lease, or the remaining lease of another holder, ms */
  static async acquire(store: LockStore, name: string, ttlMs: number): Promise<Lease | number> {
    const owner = randomUUID()
    const since = performance.now()
    try {
      const attempt = await store.acquire(name, owner, ttlMs)
      return 'token' in attempt ? new Lease(store, name, owner, ttlMs, attempt.token, since) : attempt.heldForMs
    } catch (error) {
      // The command may have been carried out although its reply was lost.
      store.release(name, owner).catch(() => {})
      throw error
    }
  }

  /** Aborts when the lock is lost, or by {@link Lease.resign}. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** Whether there may be another holder. */
  get lost(): boolean {
    return this.#lost
  }

  /** Aborts the signal, so that the holder finishes. It keeps the lock until {@link Lease.release}. */
  resign(reason?: unknown): void {
    this.#abort.abort(reason)
  }

  /** Releases the lock. Never rejects. `false`: stops the renewal only, because the work has not ended. */
  async release(now = true): Promise<void> {
    if (this.#released) return
    this.#released = true
    clearTimeout(this.#renewal)
    clearTimeout(this.#deadline)
    if (!now) return
    // If Redis is unavailable the lease expires by itself. Only the reply shows whether it expired before.
    const isOwner = await this.#store.release(this.#name, this.#owner).catch(() => true)
    if (!isOwner && !this.#lost) this.#lose()
  }

  /** @param since when the command was sent; the lease began then or later */
  #extend(since: number): void {
    clearTimeout(this.#deadline)
    const leftMs = since + this.#ttlMs * (1 - drift) - performance.now()
    this.#deadline = setTimeout(() => this.#lose(), Math.max(0, leftMs)).unref()
    this.#renewLater(this.#ttlMs / 3)
  }

  #renewLater(afterMs: number): void {
    this.#renewal = setTimeout(() => this.#renew(), afterMs).unref()
  }

  async #renew(): Promise<void> {
    const since = performance.now()
    const isRenewed = await this.#store.renew(this.#name, this.#owner, this.#ttlMs).catch(() => undefined)
    if (this.#released || this.#lost) return
    if (isRenewed) this.#extend(since)
    else if (isRenewed === false) this.#lose()
    else this.#renewLater(this.#ttlMs / 10)
  }

  #lose(): void {
    this.#lost = true
    clearTimeout(this.#renewal)
    clearTimeout(this.#deadline)
    this.#abort.abort(new FleetError('FLEET_ERR_LOCK_LOST', this.#name))
  }
}
