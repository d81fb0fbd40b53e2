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
  readonly #calls = new Set<Promise<unknown>>()
  /** The leases of the functions that run. */
  readonly #leases = new Set<Lease>()
  #isClosed = false

  constructor(store: LockStore) {
    this.#store = store
  }

  run<T>(
    name: string,
    fn: (token: number, signal: AbortSignal) => T | Promise<T>,
    options: Required<LockOptions>,
  ): Promise<T> {
    const call = this.#run(name, fn, options)
    const end = (): void => void this.#calls.delete(call)
    this.#calls.add(call)
    call.then(end, end)
    return call
  }

  /** Rejects those that wait for a lock, aborts the functions that run under one, and waits for all up to `graceMs`. */
  async close(graceMs: number): Promise<void> {
    this.#isClosed = true
    for (const lease of this.#leases) lease.resign()
    await within(graceMs, Promise.allSettled(this.#calls))
    await Promise.all(Array.from(this.#leases, (lease) => lease.release(false)))
  }

  async #run<T>(
    name: string,
    fn: (token: number, signal: AbortSignal) => T | Promise<T>,
    { ttlMs, waitMs }: Required<LockOptions>,
  ): Promise<T> {
    const deadline = performance.now() + waitMs
    const release = await this.#mutex.acquire(name, waitMs)
    if (!release) throw busy(name, `within ${waitMs} ms`)
    try {
      const lease = await this.#acquire(name, ttlMs, deadline, waitMs)
      this.#leases.add(lease)
      try {
        return await runWith(lease, fn)
      } finally {
        this.#leases.delete(lease)
      }
    } finally {
      release()
    }
  }

  async #acquire(name: string, ttlMs: number, deadline: number, waitMs: number): Promise<Lease> {
    for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, 100)) {
      this.#assertOpen(name)
      const got = await Lease.acquire(this.#store, name, ttlMs)
      if (got instanceof Lease) {
        if (this.#isClosed) await got.release()
        this.#assertOpen(name)
        return got
      }
      const leftMs = deadline - performance.now()
      if (leftMs <= 0) throw busy(name, `within ${waitMs} ms`)
      await sleep(Math.min(leftMs, got + 1, pauseMs * (0.5 + Math.random())))
    }
  }

  #assertOpen(name: string): void {
    if (this.#isClosed) throw busy(name, 'before the app closed')
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

const busy = (name: string, when: string): FleetError =>
  new FleetError('FLEET_ERR_LOCK_BUSY', `${JSON.stringify(name)} was not free ${when}`, { retryAfter: 1 })
