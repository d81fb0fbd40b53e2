import { setTimeout as sleep } from 'node:timers/promises'
import { FleetError } from '../../base/errors.ts'
import { Lease, settles } from './lease.ts'
import type { LockStore } from './store.ts'

export interface LockOptions {
  /** A holder that died keeps the lock for this long, 100 to 3,600,000 ms; a live one renews it. @default 10000 */
  ttl?: number
  /** How long to wait for another holder, 0 to 3,600,000 ms. @default 10000 */
  waitMs?: number
}

/** One at a time for each name, in the order they came. */
export class Turns {
  readonly #lines = new Map<string, (() => void)[]>()

  /** @returns a function that passes the turn on; `undefined` when it did not come within `waitMs` */
  async take(name: string, waitMs: number): Promise<(() => void) | undefined> {
    const pass = (): void => {
      const next = this.#lines.get(name)?.shift()
      if (next) next()
      else this.#lines.delete(name)
    }
    const line = this.#lines.get(name)
    if (!line) {
      this.#lines.set(name, [])
      return pass
    }
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const turn = (): void => resolve(true)
    line.push(turn)
    const timer = setTimeout(() => {
      line.splice(line.indexOf(turn), 1)
      resolve(false)
    }, waitMs)
    const came = await promise
    clearTimeout(timer)
    return came ? pass : undefined
  }
}

/** Runs functions under a lock. Callers of one process queue for it here, so that only the first of them asks Redis. */
export class Locks {
  readonly #store: LockStore
  readonly #turns = new Turns()
  readonly #held = new Map<Lease, Promise<unknown>>()

  constructor(store: LockStore) {
    this.#store = store
  }

  async run<T>(
    name: string,
    fn: (token: number, signal: AbortSignal) => T | Promise<T>,
    { ttl, waitMs }: Required<LockOptions>,
  ): Promise<T> {
    const deadline = performance.now() + waitMs
    const pass = await this.#turns.take(name, waitMs)
    if (!pass) throw busy(name, waitMs)
    try {
      const lease = await this.#acquire(name, ttl, deadline, waitMs)
      const work = hold(lease, fn)
      this.#held.set(lease, work)
      try {
        return await work
      } finally {
        this.#held.delete(lease)
      }
    } finally {
      pass()
    }
  }

  /** Aborts what runs under a lock, and waits for it no longer than `graceMs`. */
  async close(graceMs: number): Promise<void> {
    if (this.#held.size === 0) return
    for (const lease of this.#held.keys()) lease.resign()
    await settles(Promise.allSettled(this.#held.values()), graceMs)
    await Promise.all(Array.from(this.#held.keys(), (lease) => lease.release(false)))
  }

  async #acquire(name: string, ttl: number, deadline: number, waitMs: number): Promise<Lease> {
    for (let pause = 5; ; pause = Math.min(pause * 2, 100)) {
      const got = await Lease.acquire(this.#store, name, ttl)
      if (got instanceof Lease) return got
      const left = deadline - performance.now()
      if (left <= 0) throw busy(name, waitMs)
      await sleep(Math.min(left, got + 1, pause * (0.5 + Math.random())))
    }
  }
}

/** @throws FLEET_ERR_LOCK_LOST though `fn` came to an end, because another may have run meanwhile */
async function hold<T>(lease: Lease, fn: (token: number, signal: AbortSignal) => T | Promise<T>): Promise<T> {
  const lost = (cause?: unknown): FleetError => new FleetError('FLEET_ERR_LOCK_LOST', undefined, { cause })
  try {
    const result = await fn(lease.token, lease.signal)
    await lease.release()
    if (!lease.lost) return result
  } catch (error) {
    await lease.release()
    throw lease.lost ? lost(error) : error
  }
  throw lost()
}

const busy = (name: string, waitMs: number): FleetError =>
  new FleetError('FLEET_ERR_LOCK_BUSY', `${JSON.stringify(name)} was not free within ${waitMs} ms`, { retryAfter: 1 })
