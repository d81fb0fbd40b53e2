import type { FastifyRequest } from 'fastify'
import { bool, either, fn, headerName, int, list, oneOf, type Shapes } from '../../base/options.ts'

export interface RouteIdempotency {
  /** Refuse requests without a key, by 400. @default that of the plugin */
  required?: boolean
  /** How long a response is kept, 1,000 ms to 30 days. @default that of the plugin */
  ttlMs?: number
}

export interface IdempotencyOptions extends RouteIdempotency {
  /** Take keys on every POST and PATCH route that does not say `false`; else on those that ask for it. @default false */
  global?: boolean
  /** @default false */
  required?: boolean
  /** @default 86400000 (a day) */
  ttlMs?: number
  /**
   * How long a key stays taken after the death of the instance that had its request, 1,000 to 600,000 ms; a living one
   * renews it. A request that was cut off by a death may have done its work or not: then it is done again. @default 10000
   */
  lockMs?: number
  /** Largest body that is kept; the repetition of a request with a larger response gets 409. @default 262144 (256 KiB) */
  maxResponseBytes?: number
  /**
   * Requests with a key per hour of one user, or of one client without a login, 1 to 1,000,000,000; more get 429, so that
   * nobody fills Redis with records. `false`: no bound. @default 10000
   */
  maxKeys?: number | false
  /** While Redis is away: 503 for requests with a key, or take them without the promise. @default 'unavailable' */
  whenDown?: 'unavailable' | 'proceed'
  /** Further headers by which callers identify themselves, beside `Authorization`, `X-Api-Key` and `Cookie`. @default [] */
  credentialHeaders?: string[]
  /**
   * Whose key it is, a non-empty string; the same key of another scope is another key.
   *
   * @default the authenticated user, else a hash of the credentials sent, else the client's key and a hash of its cookies
   */
  scope?: (request: FastifyRequest) => string
}

const day = 86_400_000
export const routeShapes: Shapes = { required: bool, ttlMs: int(1_000, 30 * day, 'milliseconds') }
export const shapes: Shapes = {
  ...routeShapes,
  global: bool,
  lockMs: int(1_000, 600_000, 'milliseconds'),
  maxResponseBytes: int(0, 512 * 1024 * 1024, 'bytes'),
  maxKeys: either(int(1, 1_000_000_000), oneOf(false)),
  whenDown: oneOf('unavailable', 'proceed'),
  credentialHeaders: list(headerName),
  scope: fn,
}
export const defaults = {
  global: false,
  required: false,
  ttlMs: day,
  lockMs: 10_000,
  maxResponseBytes: 256 * 1024,
  maxKeys: 10_000,
  whenDown: 'unavailable',
  credentialHeaders: [] as string[],
} satisfies IdempotencyOptions

export type Resolved = Readonly<Required<Omit<IdempotencyOptions, 'scope'>> & Pick<IdempotencyOptions, 'scope'>>
