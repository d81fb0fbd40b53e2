import { int, list, number, type OptionsOf, type Resolved, type Shape, text } from '../../base/options.ts'

/** A year, ms: an upper bound that Redis and timers accept. */
const year = 31_536_000_000
const hour = 3_600_000

/** Range of `ttlMs`. */
export const ttl: Shape<number> = int(1, year, 'milliseconds')

const times = {
  /** Serve an expired value for this long while one loader replaces it (RFC 5861). */
  staleWhileRevalidateMs: int(0, year, 'milliseconds').default(0),
  /** Serve an expired value for this long if the loader fails or times out (RFC 5861). */
  staleIfErrorMs: int(0, year, 'milliseconds').default(0),
  /** How long callers wait for a fresh value if a stale one is available; 0: no limit. */
  softTimeoutMs: int(0, hour, 'milliseconds').default(0),
  /** How long a caller waits at most; then the loader's `signal` aborts. */
  hardTimeoutMs: int(1, hour, 'milliseconds').default(10_000),
  /** How long `null` and `undefined` are cached, capped by the value's `ttlMs`; 0: not at all. */
  negativeTtlMs: int(0, year, 'milliseconds').default(10_000),
}

/** @internal */
export const loadOptions = {
  ...times,
  /** Tags for `deleteByTag()`. */
  tags: list(text).default([]) as Shape<readonly string[], readonly string[]>,
}
/** Options of one call; the defaults are those of {@link CacheOptions}. */
export type LoadOptions = OptionsOf<typeof loadOptions>
export type ResolvedLoadOptions = Resolved<typeof loadOptions>

/** @internal */
export const cacheOptions = {
  ...times,
  /** Maximum of values in this process; 0: none, so that every read goes to Redis. */
  maxItems: int(0, 100_000_000).default(10_000),
  /** Maximum of bytes in this process, measured as JSON. */
  maxBytes: int(0, Number.MAX_SAFE_INTEGER, 'bytes').default(64 * 1024 * 1024),
  /** Maximum length of a key. */
  maxKeyLength: int(1, 65_536, 'characters').default(512),
  /** Maximum size of a value as JSON. */
  maxValueBytes: int(1, 512 * 1024 * 1024, 'bytes').default(1024 * 1024),
  /** Values expire early by a random share of their life up to this one, so that they do not expire together. */
  jitter: number(0, 1).default(0.1),
  /** If the loading instance dies, another one loads the value after this time. */
  leaseMs: int(100, hour, 'milliseconds').default(3_000),
  /** Pause before a failed loader is called again while a stale value is served. */
  errorBackoffMs: int(0, hour, 'milliseconds').default(1_000),
  /** How long a value is fresh while Redis is unavailable, so that invalidations do not arrive. */
  offlineTtlMs: int(0, hour, 'milliseconds').default(1_000),
}
export type CacheOptions = OptionsOf<typeof cacheOptions>
export type ResolvedCacheOptions = Resolved<typeof cacheOptions>
