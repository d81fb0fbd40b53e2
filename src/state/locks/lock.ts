import { setTimeout as sleep } from 'node:timers/promises'
import { FleetError } from '../../base/errors.ts'
import { int, type OptionsOf } from '../../base/options.ts'
import { within } from '../../base/within.ts'
import { Lease } from './lease.ts'
import type { LockStore } from './store.ts'

/** @internal */
export const lockOptions = {
  /** The lease: a live holder renews it, and it expires this long after the holder died. */
  ttlMs: int(100, 3_600_000, 'milliseconds').default(10_000),
  /** How long to wait for another holder. */
  waitMs: int(0, 3_600_000, 'milliseconds').default(10_000),
}
export type LockOptions = OptionsOf<typeof lockOptions>

/** A FIFO mutex per name for the callers of one process. */
export class LocalMutex {
  readonly #queues = new Map<string, (() => void)[]>()

  /** @returns a function that releases the mutex; `undefined` if it was not free within `waitMs` */
  async acquire(name: string, waitMs: number): Promise<(() => void) | undefined> {
    const release = (): void => {
      const next = this.#queues.get(name)?.shift()
      if (next) next()
      else this.#queues.delete(name)
    }
    const queue = this.#queues.get(name)
    if (!queue) {
      this.#queues.set(name, [])
      return release
    }
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const grant = (): void => resolve(true)
    queue.push(grant)
    const timer = setTimeout(() => {
      queue.splice(queue.indexOf(grant), 1)
      resolve(false)
    }, waitMs)
    const isGranted = await promise
    clearTimeout(timer)
    return isGranted ? release : undefined
  }
}

/** Runs functions under a lock. Callers of one process queue locally, so that only the first of them sends commands to Redis. */
export class Locks {
  readonly #store: LockStore
  readonly #mutex = new LocalMutex()
  readonly #running = new Map<Lease, Promise<unknown>>()

  constructor(store: LockStore) {
    this.#store = store
  }

  async run<T>(
    name: string,
    fn: (token: number, signal: AbortSignal) => T | Promise<T>,
    { ttlMs, waitMs }: Required<LockOptions>,
  ): Promise<T> {
    const deadline = performance.now() + waitMs
    const release = await this.#mutex.acquire(name, waitMs)
    if (!release) throw busy(name, waitMs)
    try {
      const lease = await this.#acquire(name, ttlMs, deadline, waitMs)
      const work = runWith(lease, fn)
      this.#running.set(lease, work)
      try {
        return await work
      } finally {
        this.#running.delete(lease)
      }
    } finally {
      release()
    }
  }

  /** Aborts the functions that run under a lock and waits for them up to `graceMs`. */
  async close(graceMs: number): Promise<void> {
    if (this.#running.size === 0) return
    for (const lease of this.#running.keys()) lease.resign()
    await within(graceMs, Promise.allSettled(this.#running.values()))
    await Promise.all(Array.from(this.#running.keys(), (lease) => lease.release(false)))
  }

  async #acquire(name: string, ttlMs: number, deadline: number, waitMs: number): Promise<Lease> {
    for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, 100)) {
      const got = await Lease.acquire(this.#store, name, ttlMs)
      if (got instanceof Lease) return got
      const leftMs = deadline - performance.now()
      if (leftMs <= 0) throw busy(name, waitMs)
      await sleep(Math.min(leftMs, got + 1, pauseMs * (0.5 + Math.random())))
    }
  }
}

/** @throws FLEET_ERR_LOCK_LOST even if `fn` succeeded, because another holder may have run meanwhile */
async function runWith<T>(lease: Lease, fn: (token: number, signal: AbortSignal) => T | Promise<T>): Promise<T> {
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
