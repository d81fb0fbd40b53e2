import type { FastifyRequest } from 'fastify'
import { either, fn, headerName, int, list, type OptionsOf, oneOf, type Resolved, text } from '../../base/options.ts'

/** Seconds. */
const year = 31_536_000

/** @internal */
export const routeCacheOptions = {
  /** How long a response is fresh. Required. */
  ttlMs: int(1, year * 1000, 'milliseconds'),
  /** Request headers that the response depends on, e.g. `accept-language`. */
  vary: list(headerName).default([]),
  /** Tags for `app.cache.deleteByTag()`. */
  tags: either(list(text), fn<(request: FastifyRequest) => string[]>()).default([]),
  /** Serve a stale response for this long while one request fetches a fresh one (RFC 5861). */
  staleWhileRevalidateMs: int(0, year * 1000, 'milliseconds').default(0),
  /** Serve a stale response for this long instead of a 5xx (RFC 5861). */
  staleIfErrorMs: int(0, year * 1000, 'milliseconds').default(0),
  /** `max-age` of `Cache-Control`. Clients keep responses that long even if they are deleted here. */
  maxAge: int(0, year, 'seconds').default(0),
  /** Requests with cookies bypass the cache, or their cookies are ignored. */
  cookies: oneOf('bypass', 'ignore').default('bypass'),
  /**
   * Maximum of responses that one instance stores for this route within their life. Further requests go to the handler, so
   * that made-up URLs fill neither memory nor Redis.
   */
  maxEntries: int(1, 1_000_000_000).default(10_000),
}

/**
 * Caching of a GET route. Its response must depend only on scheme, host, URL, the headers in `vary`, and stored data: the
 * handler sees no other header, and not the client's address.
 */
export type RouteCache = OptionsOf<typeof routeCacheOptions> & { ttlMs: number }

export type CachedRoute = Resolved<typeof routeCacheOptions> & {
  readonly ttlMs: number
  /** Path and constraints; GET and HEAD share it. */
  readonly id: string
}
