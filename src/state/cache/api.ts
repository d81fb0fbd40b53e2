import type { LoadOptions } from './options.ts'

/** Gets the value that is to be remembered. `signal` is aborted when nobody waits for it any more. */
export type Loader<T> = (context: { key: string; signal: AbortSignal }) => T | Promise<T>

export interface SetOptions {
  /** Names under which `deleteByTag()` finds this value. @default none */
  tags?: readonly string[]
}

export interface WrapOptions<A extends unknown[]> extends Omit<LoadOptions, 'tags'> {
  /** How long a result is fresh, ms. */
  ttlMs: number
  /** What keys begin with. @default the function's name */
  name?: string
  /** What tells calls apart. @default the arguments as JSON */
  key?: (...args: A) => string
  tags?: readonly string[] | ((...args: A) => readonly string[])
}

/**
 * A cache in two layers: the memory of this process over Redis, or memory alone.
 *
 * Values travel as JSON and come back frozen, to the first caller as to the last: a `Date` comes back as a string, and
 * changing what the cache gave throws. Callers never fail because Redis is away: then loaders are called, and what
 * changes elsewhere may be seen late, by `offlineTtlMs` at most.
 *
 * Keys and tags are strings of 1 to `maxKeyLength` characters that do not start with `}` (FLEET_ERR_CACHE_KEY_INVALID).
 */
export interface Cache {
  /** @returns the value while it is fresh, else `undefined` */
  get<T = unknown>(key: string): Promise<T | undefined>
  /**
   * Remembers a value for the whole fleet. Loads of it that are under way count for nothing.
   *
   * @param ttlMs how long it is fresh, 1 ms to a year
   * @throws FLEET_ERR_CACHE_VALUE_TOO_LARGE, FLEET_ERR_CACHE_VALUE_INVALID, FLEET_ERR_OPTION_INVALID
   */
  set(key: string, value: unknown, ttlMs: number, options?: SetOptions): Promise<void>
  /** Forgets a value on every instance. A load of it that began before is not kept, whoever does it. */
  delete(key: string): Promise<void>
  /** Forgets, on every instance, all values that have this tag. */
  deleteByTag(tag: string): Promise<void>
  /**
   * The value, got by `loader` when it is not known: by one call of it in the whole fleet, however many ask. The work of
   * an instance that dies is taken over within `leaseMs`. A value too large to be kept is passed on.
   *
   * @param ttlMs how long it is fresh, 1 ms to a year
   * @throws what the loader throws; FLEET_ERR_CACHE_TIMEOUT after `hardTimeoutMs`; FLEET_ERR_CACHE_VALUE_INVALID
   */
  getOrSet<T>(key: string, ttlMs: number, loader: Loader<T>, options?: LoadOptions): Promise<T>
  /** `fn`, with what it returned for the same arguments remembered; throws what {@link Cache.getOrSet} throws. */
  wrap<A extends unknown[], R>(fn: (...args: A) => R, options: WrapOptions<A>): (...args: A) => Promise<Awaited<R>>
}
