import type { FastifyRequest } from 'fastify'
import { bool, either, fn, headerName, int, list, type OptionsOf, oneOf, type Resolved } from '../../base/options.ts'

const day = 86_400_000
/** @internal */
export const routeOptions = {
  /** Reject requests without a key with 400. */
  required: bool.default(false),
  /** How long a response is stored. */
  ttlMs: int(1_000, 30 * day, 'milliseconds').default(day),
  /**
   * While Redis is unavailable: `reject` responds 503 to requests with a key; `allow` processes them without protection
   * against repetition.
   */
  onOutage: oneOf('reject', 'allow').default('reject'),
}
/** Options of one route; the defaults are those of {@link IdempotencyOptions}. */
export type RouteIdempotency = OptionsOf<typeof routeOptions>

/** @internal */
export const idempotencyOptions = {
  /** Accept keys on every POST and PATCH route without `idempotency: false`; else only on routes that enable it. */
  global: bool.default(false),
  ...routeOptions,
  /**
   * How long a key stays locked after the instance with its request died; a live instance renews it. The request may have
   * been partly or fully processed before; a repetition processes it again.
   */
  lockMs: int(1_000, 600_000, 'milliseconds').default(10_000),
  /** Maximum size of a stored body. Repetitions of a request with a larger response get 409. */
  maxResponseBytes: int(0, 512 * 1024 * 1024, 'bytes').default(256 * 1024),
  /**
   * Requests with a key per hour and user, or per client without a login; further ones get 429, so that one client cannot
   * fill Redis. `false`: no limit.
   */
  maxKeys: either(int(1, 1_000_000_000), oneOf(false)).default(10_000),
  /** Further headers that identify callers, besides `Authorization`, `X-Api-Key` and `Cookie`. */
  credentialHeaders: list(headerName).default([]),
  /**
   * The caller that a key belongs to, as a non-empty string. Keys of different scopes are independent.
   *
   * @default the authenticated user, else a hash of the credentials sent, else the client's key and a hash of its cookies
   */
  scope: fn<(request: FastifyRequest) => string>(),
}
export type IdempotencyOptions = OptionsOf<typeof idempotencyOptions>
export type ResolvedIdempotency = Resolved<typeof idempotencyOptions>

/** Former names, see docs/migration.md. */
export const renamed = { whenDown: "onOutage: 'reject' | 'allow'" } as const
