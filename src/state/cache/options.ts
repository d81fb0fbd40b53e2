import { int, list, number, type Shapes, text } from '../../base/options.ts'

/** Options of one call; the defaults are those of {@link CacheOptions}. */
export interface LoadOptions {
  /** Tags for `deleteByTag()`. @default none */
  tags?: readonly string[]
  /** Serve an expired value for this long while one loader replaces it (RFC 5861), ms. @default 0 */
  staleWhileRevalidateMs?: number
  /** Serve an expired value for this long if the loader fails or times out (RFC 5861), ms. @default 0 */
  staleIfErrorMs?: number
  /** How long callers wait for a fresh value if a stale one is available, ms; 0: no limit. @default 0 */
  softTimeoutMs?: number
  /** How long a caller waits at most, ms; then the loader's `signal` aborts. @default 10000 */
  hardTimeoutMs?: number
  /** How long `null` and `undefined` are cached, ms, capped by the value's `ttlMs`; 0: not at all. @default 10000 */
  negativeTtlMs?: number
}

export interface CacheOptions extends Omit<LoadOptions, 'tags'> {
  /** Maximum of values in this process; 0: none, so that every read goes to Redis. @default 10000 */
  maxItems?: number
  /** Maximum of bytes in this process, measured as JSON. @default 67108864 (64 MiB) */
  maxBytes?: number
  /** Maximum length of a key, characters. @default 512 */
  maxKeyLength?: number
  /** Maximum size of a value, bytes of JSON. @default 1048576 (1 MiB) */
  maxValueBytes?: number
  /** Values expire early by a random share of their life up to this one, so that they do not expire together. @default 0.1 */
  jitter?: number
  /** If the loading instance dies, another one loads the value after this time, ms. @default 3000 */
  leaseMs?: number
  /** Pause before a failed loader is called again while a stale value is served, ms. @default 1000 */
  errorBackoffMs?: number
  /** How long a value is fresh while Redis is unavailable, so that invalidations do not arrive, ms. @default 1000 */
  offlineTtlMs?: number
}

export type ResolvedLoadOptions = Readonly<Required<LoadOptions>>
export type ResolvedCacheOptions = Readonly<Required<CacheOptions>>

const times = {
  staleWhileRevalidateMs: 0,
  staleIfErrorMs: 0,
  softTimeoutMs: 0,
  hardTimeoutMs: 10_000,
  negativeTtlMs: 10_000,
} satisfies LoadOptions

export const defaults = {
  ...times,
  maxItems: 10_000,
  maxBytes: 64 * 1024 * 1024,
  maxKeyLength: 512,
  maxValueBytes: 1024 * 1024,
  jitter: 0.1,
  leaseMs: 3_000,
  errorBackoffMs: 1_000,
  offlineTtlMs: 1_000,
} satisfies CacheOptions

/** A year, ms: an upper bound that Redis and timers accept. */
const year = 31_536_000_000
const hour = 3_600_000

/** Range of `ttlMs`. */
export const ttl = int(1, year, 'milliseconds')

const timeShapes = {
  staleWhileRevalidateMs: int(0, year, 'milliseconds'),
  staleIfErrorMs: int(0, year, 'milliseconds'),
  softTimeoutMs: int(0, hour, 'milliseconds'),
  hardTimeoutMs: int(1, hour, 'milliseconds'),
  negativeTtlMs: int(0, year, 'milliseconds'),
} satisfies Shapes

export const loadShapes: Shapes = { ...timeShapes, tags: list(text) }

export const shapes: Shapes = {
  ...timeShapes,
  maxItems: int(0, 100_000_000),
  maxBytes: int(0, Number.MAX_SAFE_INTEGER, 'bytes'),
  maxKeyLength: int(1, 65_536, 'characters'),
  maxValueBytes: int(1, 512 * 1024 * 1024, 'bytes'),
  jitter: number(0, 1),
  leaseMs: int(100, hour, 'milliseconds'),
  errorBackoffMs: int(0, hour, 'milliseconds'),
  offlineTtlMs: int(0, hour, 'milliseconds'),
}

/** The defaults of a call. */
export function loadDefaults(options: ResolvedCacheOptions): ResolvedLoadOptions {
  const names = Object.keys(times) as (keyof typeof times)[]
  return { tags: [], ...(Object.fromEntries(names.map((name) => [name, options[name]])) as typeof times) }
}
