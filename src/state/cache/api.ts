import type { LoadOptions } from './options.ts'

/** Loads a value on a miss. `signal` aborts after `hardTimeoutMs`. */
export type Loader<T> = (context: { key: string; signal: AbortSignal }) => T | Promise<T>

export interface SetOptions {
  /** Tags for `deleteByTag()`. @default none */
  tags?: readonly string[]
}

export interface WrapOptions<A extends unknown[]> extends Omit<LoadOptions, 'tags'> {
  /** How long a result is fresh, ms. */
  ttlMs: number
  /** Prefix of the keys. @default the function's name */
  name?: string
  /** Rest of the key, one per distinct call. @default the arguments as JSON */
  key?: (...args: A) => string
  tags?: readonly string[] | ((...args: A) => readonly string[])
}

/**
 * A cache in two tiers: the memory of this process over Redis, or memory alone.
 *
 * Values are stored as JSON and returned frozen, to the first caller as well: a `Date` becomes a string, and writing to a
 * returned value throws. An outage of Redis causes no errors: loaders are called instead, and a change made by another
 * instance may be seen up to `offlineTtlMs` late.
 *
 * Keys and tags are strings of 1 to `maxKeyLength` characters that do not start with `}` (FLEET_ERR_CACHE_KEY_INVALID).
 */
export interface Cache {
  /** @returns the value while it is fresh, else `undefined` */
  get<T = unknown>(key: string): Promise<T | undefined>
  /**
   * Stores a value for the whole fleet and discards the results of loads in progress.
   *
   * @param ttlMs how long the value is fresh, 1 ms to a year
   * @throws FLEET_ERR_CACHE_VALUE_TOO_LARGE, FLEET_ERR_CACHE_VALUE_INVALID, FLEET_ERR_OPTION_INVALID
   */
  set(key: string, value: unknown, ttlMs: number, options?: SetOptions): Promise<void>
  /** Deletes a value on every instance. The result of a load that began earlier on any instance is not stored. */
  delete(key: string): Promise<void>
  /** Deletes all values with this tag on every instance. */
  deleteByTag(tag: string): Promise<void>
  /**
   * Returns the value, or calls `loader` on a miss: once in the whole fleet, however many callers wait. If the loading
   * instance dies, another one takes over within `leaseMs`. A value that is too large to store is returned without being stored.
   *
   * @param ttlMs how long the value is fresh, 1 ms to a year
   * @throws the loader's error; FLEET_ERR_CACHE_TIMEOUT after `hardTimeoutMs`; FLEET_ERR_CACHE_VALUE_INVALID
   */
  getOrSet<T>(key: string, ttlMs: number, loader: Loader<T>, options?: LoadOptions): Promise<T>
  /** Returns `fn` with cached results per argument list; throws the errors of {@link Cache.getOrSet}. */
  wrap<A extends unknown[], R>(fn: (...args: A) => R, options: WrapOptions<A>): (...args: A) => Promise<Awaited<R>>
}
