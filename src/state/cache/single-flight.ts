import { FleetError } from '../../base/errors.ts'
import { type CacheEntry, usable } from './memory-store.ts'
import type { ResolvedCacheOptions, ResolvedLoadOptions } from './options.ts'
import { newId, type SharedCacheStore, type SharedWrite } from './store.ts'
import type { CacheRead, TieredRead, TieredStore } from './tiered-store.ts'
import { encode, tooLarge } from './value.ts'

/** How a call ended; the label values of the metric. */
export type CacheOutcome = 'memory' | 'redis' | 'loader' | 'stale' | 'nothing' | 'error'

/** Loads a value on a miss. `signal` aborts after `hardTimeoutMs`. */
export type Loader<T> = (context: { key: string; signal: AbortSignal }) => T | Promise<T>

/** One call of `getOrSet()`. */
export interface LoadPlan extends ResolvedLoadOptions {
  readonly ttlMs: number
  readonly loader: Loader<unknown>
}

/** Permission to load. Without a token there is no lease in Redis: it is unavailable, or not used. */
interface Permission {
  readonly token?: string
  readonly stamps: Readonly<Record<string, string>>
}

/** Pause before polling for a value that another instance loads. Usually its message arrives first. */
const firstPauseMs = 20
const lastPauseMs = 250

const noop = (): void => {}

/** One key that is being loaded, and all callers in this process that wait for it. */
class Load implements CacheRead {
  readonly key: string
  readonly tags: Set<string>
  outdated = false
  readonly promise: Promise<unknown>
  /** The stale value to serve if no fresh one can be loaded. */
  fallback: CacheEntry | undefined
  outcome: CacheOutcome = 'error'
  /** The callers have a value. The loader may still run for later ones. */
  settled = false
  /** `softTimeoutMs` is over. A stale value that is found later is served at once. */
  isLate = false
  readonly #end = new AbortController()
  readonly #aborted = Promise.withResolvers<never>()
  readonly #result = Promise.withResolvers<unknown>()
  #wake: (() => void) | undefined

  constructor(key: string, tags: readonly string[], fallback: CacheEntry | undefined) {
    this.key = key
    this.tags = new Set(tags)
    this.fallback = fallback
    this.promise = this.#result.promise
    // All callers may have been served a stale value, so that none awaits the promise. None awaits an abort between steps.
    this.promise.catch(noop)
    this.#aborted.promise.catch(noop)
  }

  /** Aborts after `hardTimeoutMs`. */
  get signal(): AbortSignal {
    return this.#end.signal
  }

  settle(outcome: CacheOutcome, value: unknown): void {
    if (this.settled) return
    this.settled = true
    this.outcome = outcome
    this.#result.resolve(value)
  }

  fail(error: unknown): void {
    this.settled = true
    this.#result.reject(error)
  }

  /** Settles with the stale value if it has been stale for less than `windowMs`. @returns that value's entry */
  serveStale(windowMs: number): CacheEntry | undefined {
    if (!this.fallback || !usable(this.fallback, windowMs)) return undefined
    this.settle('stale', this.fallback.promise)
    return this.fallback
  }

  abort(reason: Error): void {
    this.#end.abort(reason)
    this.#aborted.reject(reason)
    this.wake()
  }

  /** Resolves like `work`, but rejects as soon as the load is aborted. */
  orAborted<T>(work: Promise<T>): Promise<T> {
    return Promise.race([this.#aborted.promise, work])
  }

  async pause(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, ms)
    this.#wake = resolve
    await promise
    this.#wake = undefined
    clearTimeout(timer)
  }

  /** Ends a pause early. */
  wake(): void {
    this.#wake?.()
  }
}

/**
 * Single-flight: one {@link Load} per key in this process, one lease in Redis for the fleet. The instance with the lease
 * loads and renews the lease until it has finished. The others wait for its message and poll in case the message is
 * lost or the instance dies.
 */
export class SingleFlight {
  /** Loader calls by result. */
  readonly results = { ok: 0, failed: 0 }
  readonly #options: ResolvedCacheOptions
  readonly #store: TieredStore
  readonly #warn: (details: object, message: string) => void
  readonly #loads = new Map<string, Load>()

  constructor(options: ResolvedCacheOptions, store: TieredStore, warn: (details: object, message: string) => void) {
    this.#options = options
    this.#store = store
    this.#warn = warn
  }

  /** Joins the load of a key that is in progress, or starts one if there is none or its result may be outdated. */
  join(key: string, plan: LoadPlan, fallback: CacheEntry | undefined): Load {
    const known = this.#loads.get(key)
    if (known && !known.outdated) return known
    const load = new Load(key, plan.tags, fallback)
    this.#loads.set(key, load)
    this.#store.begin(load)
    void this.#run(load, plan)
    return load
  }

  wake(key: string): void {
    this.#loads.get(key)?.wake()
  }

  /** Runs until the loader has ended. Never rejects. */
  async #run(load: Load, plan: LoadPlan): Promise<void> {
    const keepMs = staleWindow(plan)
    const endSoftly = (): void => {
      load.isLate = true
      load.serveStale(keepMs)
    }
    const soft = plan.softTimeoutMs > 0 && setTimeout(endSoftly, plan.softTimeoutMs)
    const hard = setTimeout(() => load.abort(new FleetError('FLEET_ERR_CACHE_TIMEOUT')), plan.hardTimeoutMs)
    try {
      const permission = await this.#acquire(load, plan)
      if (permission) await this.#load(load, plan, permission)
    } catch (err) {
      const served = load.serveStale(keepMs)
      if (load.settled) this.#warn({ err, key: load.key }, 'cache: loading failed; serving the stale value')
      if (served) served.freshUntil = performance.now() + this.#options.errorBackoffMs
      else load.fail(err)
    } finally {
      if (soft) clearTimeout(soft)
      clearTimeout(hard)
      this.#end(load)
    }
  }

  /** Later callers start a new load. */
  #end(load: Load): void {
    if (this.#loads.get(load.key) === load) this.#loads.delete(load.key)
    this.#store.end(load)
  }

  /** Waits for a value from Redis, or for permission to load one. @returns `undefined` if a value was found */
  async #acquire(load: Load, plan: LoadPlan): Promise<Permission | undefined> {
    const { shared } = this.#store
    if (!shared) return { stamps: {} }
    const token = newId()
    const lifeMs = plan.ttlMs + staleWindow(plan) + plan.hardTimeoutMs
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, lastPauseMs)) {
      let read: TieredRead
      try {
        read = await this.#store.read(shared, load, { token, leaseMs: this.#options.leaseMs }, lifeMs)
        if (read.found) load.fallback = this.#store.adopt(load, read.found)
      } catch {
        return { stamps: {} }
      }
      if (read.found && read.found.freshMs > 0) return void load.settle('redis', load.fallback?.promise)
      if (read.found) load.serveStale(load.isLate ? staleWindow(plan) : plan.staleWhileRevalidateMs)
      if (read.leased) return { token, stamps: read.stamps }
      await load.pause(pauseMs * (0.5 + Math.random()))
      load.signal.throwIfAborted()
    }
  }

  async #load(load: Load, plan: LoadPlan, { token, stamps }: Permission): Promise<void> {
    const release = token && this.#store.shared ? this.#renewLease(this.#store.shared, load.key, token) : noop
    try {
      const work = (async () => plan.loader({ key: load.key, signal: load.signal }))()
      const stored = this.#finish(load, plan, await load.orAborted(work), token === undefined)
      this.results.ok++
      release(stored && { ...stored, stamps, keepMs: staleWindow(plan) })
    } catch (error) {
      this.results.failed++
      release()
      throw error
    }
  }

  /** Settles the callers and stores the value in memory. @returns the value for Redis, if it is to be stored there */
  #finish(
    load: Load,
    plan: LoadPlan,
    loaded: unknown,
    localOnly: boolean,
  ): Pick<SharedWrite, 'json' | 'freshMs'> | undefined {
    const encoded = encode(load.key, loaded)
    const isEmpty = loaded === undefined || loaded === null
    const freshMs = jittered(isEmpty ? Math.min(plan.ttlMs, plan.negativeTtlMs) : plan.ttlMs, this.#options.jitter)
    const { maxValueBytes } = this.#options
    const fits = encoded.bytes <= maxValueBytes
    if (!fits) this.#warn({ err: tooLarge(load.key, encoded, maxValueBytes) }, 'cache: value is too large to store')
    const isStored = fits && freshMs > 0
    if (isStored) this.#store.remember(load, encoded, plan.tags, freshMs, localOnly)
    this.#end(load)
    load.settle('loader', encoded.value)
    return isStored ? { json: encoded.json, freshMs } : undefined
  }

  /** Renews a lease until the returned function ends it, with or without a value, and wakes the instances that wait. */
  #renewLease(shared: SharedCacheStore, key: string, token: string): (value?: SharedWrite) => void {
    const { leaseMs } = this.#options
    const timer = setInterval(() => void shared.renew(key, token, leaseMs).catch(noop), leaseMs / 3).unref()
    return (value) => {
      clearInterval(timer)
      // If this fails, the lease expires by itself.
      shared.fill(key, token, value).then((isAwaited) => isAwaited && this.#store.invalidations?.wake(key), noop)
    }
  }
}

/** How long a value is stored after it has become stale, ms. */
function staleWindow({ staleWhileRevalidateMs, staleIfErrorMs }: ResolvedLoadOptions): number {
  return Math.max(staleWhileRevalidateMs, staleIfErrorMs)
}

export function jittered(ttlMs: number, jitter: number): number {
  return Math.ceil(ttlMs * (1 - jitter * Math.random()))
}
