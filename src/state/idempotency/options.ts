import type { FastifyRequest } from 'fastify'
import { bool, either, fn, headerName, int, list, oneOf, type Shapes } from '../../base/options.ts'

export interface RouteIdempotency {
  /** Reject requests without a key with 400. @default that of the plugin */
  required?: boolean
  /** How long a response is stored, 1,000 ms to 30 days. @default that of the plugin */
  ttlMs?: number
}

export interface IdempotencyOptions extends RouteIdempotency {
  /** Accept keys on every POST and PATCH route without `idempotency: false`; else only on routes that enable it. @default false */
  global?: boolean
  /** @default false */
  required?: boolean
  /** @default 86400000 (a day) */
  ttlMs?: number
  /**
   * How long a key stays locked after the instance with its request died, 1,000 to 600,000 ms; a live instance renews it. The
   * request may have been partly or fully processed before; a repetition processes it again. @default 10000
   */
  lockMs?: number
  /** Maximum size of a stored body, bytes. Repetitions of a request with a larger response get 409. @default 262144 (256 KiB) */
  maxResponseBytes?: number
  /**
   * Requests with a key per hour and user, or per client without a login, 1 to 1,000,000,000; further ones get 429, so that
   * one client cannot fill Redis. `false`: no limit. @default 10000
   */
  maxKeys?: number | false
  /**
   * While Redis is unavailable: `reject` responds 503 to requests with a key; `allow` processes them without protection
   * against repetition. @default 'reject'
   */
  onOutage?: 'reject' | 'allow'
  /** Further headers that identify callers, besides `Authorization`, `X-Api-Key` and `Cookie`. @default [] */
  credentialHeaders?: string[]
  /**
   * The caller that a key belongs to, as a non-empty string. Keys of different scopes are independent.
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
  onOutage: oneOf('reject', 'allow'),
  credentialHeaders: list(headerName),
  scope: fn(),
}
/** Former names, see docs/migration.md. */
export const renamed = { whenDown: "onOutage: 'reject' | 'allow'" } as const
export const defaults = {
  global: false,
  required: false,
  ttlMs: day,
  lockMs: 10_000,
  maxResponseBytes: 256 * 1024,
  maxKeys: 10_000,
  onOutage: 'reject',
  credentialHeaders: [] as string[],
} satisfies IdempotencyOptions

export type ResolvedIdempotency = Readonly<
  Required<Omit<IdempotencyOptions, 'scope'>> & Pick<IdempotencyOptions, 'scope'>
>
