import { int, list, number, type Shapes, text } from '../../base/options.ts'

/** What one call may say of its value; times in ms. What it leaves out is as {@link CacheOptions} say. */
export interface LoadOptions {
  /** Names under which `deleteByTag()` finds this value. @default none */
  tags?: readonly string[]
  /** After it expired, a value is served at once for this long while one loader replaces it (RFC 5861). @default 0 */
  staleWhileRevalidateMs?: number
  /** After it expired, a value is served for this long when the loader fails or is too slow (RFC 5861). @default 0 */
  staleIfErrorMs?: number
  /** When a stale value may be served, callers wait this long for a fresh one; 0: as long as it takes. @default 0 */
  softTimeoutMs?: number
  /** The most a caller waits; then the loader's `signal` is aborted. @default 10000 */
  hardTimeoutMs?: number
  /** How long `null` and `undefined` are remembered, at most as long as other values; 0: not at all. @default 10000 */
  negativeTtlMs?: number
}

export interface CacheOptions extends Omit<LoadOptions, 'tags'> {
  /** Most values in this process; 0: none, so that every read asks Redis. @default 10000 */
  maxItems?: number
  /** Most bytes in this process, values measured as JSON. @default 67108864 (64 MiB) */
  maxBytes?: number
  /** Longest key, in characters. @default 512 */
  maxKeyLength?: number
  /** Largest value, in bytes of JSON. @default 1048576 (1 MiB) */
  maxValueBytes?: number
  /** Values expire early by up to this share of their life, so that those loaded together do not expire together. @default 0.1 */
  jitter?: number
  /** How long after the death of the instance that loads a value another one may load it, ms. @default 3000 */
  leaseMs?: number
  /** How long a stale value is served before a loader that failed is tried again, ms. @default 1000 */
  errorBackoffMs?: number
  /** How long a value is fresh while peers cannot say that it changed, because Redis is away, ms. @default 1000 */
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

/** A year: longer than anything should be remembered, and short enough for Redis and timers. */
const year = 31_536_000_000
const hour = 3_600_000

/** How long a value may be fresh. */
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

/** What calls inherit from the plugin's options. */
export function loadDefaults(options: ResolvedCacheOptions): ResolvedLoadOptions {
  const names = Object.keys(times) as (keyof typeof times)[]
  return { tags: [], ...(Object.fromEntries(names.map((name) => [name, options[name]])) as typeof times) }
}
