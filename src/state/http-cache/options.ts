import type { FastifyRequest } from 'fastify'
import { either, fn, headerName, int, list, oneOf, type Shapes, text } from '../../base/options.ts'

/**
 * Caching of a GET route. Its response must depend only on scheme, host, URL, the headers in `vary`, and stored data: the
 * handler sees no other header, and not the client's address.
 */
export interface RouteCache {
  /** How long a response is fresh, 1 ms to a year. */
  ttlMs: number
  /** Request headers that the response depends on, e.g. `accept-language`. @default none */
  vary?: string[]
  /** Tags for `app.cache.deleteByTag()`. @default none */
  tags?: string[] | ((request: FastifyRequest) => string[])
  /** Serve a stale response for this long while one request fetches a fresh one (RFC 5861), ms. @default 0 */
  staleWhileRevalidateMs?: number
  /** Serve a stale response for this long instead of a 5xx (RFC 5861), ms. @default 0 */
  staleIfErrorMs?: number
  /** `max-age` of `Cache-Control`, seconds. Clients keep responses that long even if they are deleted here. @default 0 */
  maxAge?: number
  /** Requests with cookies bypass the cache, or their cookies are ignored. @default 'bypass' */
  cookies?: 'bypass' | 'ignore'
  /**
   * Maximum of responses that one instance stores for this route within their life, 1 to 1,000,000,000. Further requests go
   * to the handler, so that made-up URLs fill neither memory nor Redis. @default 10000
   */
  maxEntries?: number
}

export const defaults = {
  vary: [] as string[],
  tags: [] as string[],
  staleWhileRevalidateMs: 0,
  staleIfErrorMs: 0,
  maxAge: 0,
  cookies: 'bypass',
  maxEntries: 10_000,
} satisfies Omit<RouteCache, 'ttlMs'>

export type CachedRoute = Readonly<Required<RouteCache>> & {
  /** Path and constraints; GET and HEAD share it. */
  readonly id: string
}

/** Seconds. */
const year = 31_536_000

export const shapes: Shapes = {
  ttlMs: int(1, year * 1000, 'milliseconds'),
  vary: list(headerName),
  tags: either(list(text), fn()),
  staleWhileRevalidateMs: int(0, year * 1000, 'milliseconds'),
  staleIfErrorMs: int(0, year * 1000, 'milliseconds'),
  maxAge: int(0, year, 'seconds'),
  cookies: oneOf('bypass', 'ignore'),
  maxEntries: int(1, 1_000_000_000),
}
