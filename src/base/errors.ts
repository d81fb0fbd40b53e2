/**
 * All errors of this toolkit. `docs/errors.md` explains each one, and a guard test compares the two. A retired code is
 * never reused.
 */
const table = {
  FLEET_ERR_OPTION_UNKNOWN: { status: 500, text: 'unknown option' },
  FLEET_ERR_OPTION_INVALID: { status: 500, text: 'invalid option' },
  FLEET_ERR_ENV_INVALID: { status: 500, text: 'invalid environment variable' },
  FLEET_ERR_USAGE: { status: 400, text: 'invalid command line' },
  FLEET_ERR_UNREACHABLE: { status: 502, text: 'connection failed' },
  FLEET_ERR_NOT_OPERATOR: { status: 404, text: 'operator access required' },
  FLEET_ERR_ORIGIN_UNPROVEN: { status: 403, text: 'the request could have been sent by another site' },
  FLEET_ERR_SIGN_IN_FAILED: { status: 401, text: 'wrong token, or a used or expired link' },
  FLEET_ERR_PLUGIN_CONFLICT: { status: 500, text: 'conflict with a plugin of the app' },
  FLEET_ERR_MEMORY_IN_PRODUCTION: { status: 500, text: 'in-memory state in production' },
  FLEET_ERR_MEMORY_IN_WORKERS: { status: 500, text: 'in-memory state in several processes' },
  FLEET_ERR_SECRET_MISSING: { status: 500, text: 'secret is missing' },
  FLEET_ERR_SECRET_WEAK: { status: 500, text: 'secret is too short' },
  FLEET_ERR_CHECK_EXISTS: { status: 500, text: 'health check already exists' },
  FLEET_ERR_CHECK_TIMEOUT: { status: 503, text: 'health check timed out' },
  FLEET_ERR_INSTANCE_UNKNOWN: { status: 404, text: 'unknown instance' },
  FLEET_ERR_INTERNAL: { status: 500, text: 'internal server error' },
  FLEET_ERR_DRAINING: { status: 502, text: 'instance is draining; retry on another instance' },
  FLEET_ERR_OVERLOADED: { status: 503, text: 'instance overloaded; try again' },
  FLEET_ERR_STATE_UNAVAILABLE: { status: 503, text: 'shared state is unavailable; try again' },
  FLEET_ERR_STATE_FULL: { status: 503, text: 'shared state is full; try again later' },
  FLEET_ERR_SESSION_TOO_LARGE: { status: 413, text: 'session is too large' },
  FLEET_ERR_MESSAGE_TOO_LARGE: { status: 413, text: 'message is too large' },
  FLEET_ERR_SESSION_VALUE_INVALID: { status: 500, text: 'session value is not serializable' },
  FLEET_ERR_PROGRAM_MISSING: { status: 500, text: 'program not found' },
  FLEET_ERR_SERVICE_FAILED: { status: 500, text: 'server did not start' },
  FLEET_ERR_PORT_TAKEN: { status: 500, text: 'port is in use' },
  FLEET_ERR_GEO_DATABASE: { status: 500, text: 'MaxMind database is unusable' },
  FLEET_ERR_TARGET_INVALID: { status: 500, text: 'invalid target' },
  FLEET_ERR_NO_TARGET: { status: 503, text: 'no target available' },
  FLEET_ERR_QUEUE_FULL: { status: 503, text: 'too many requests are waiting for a target' },
  FLEET_ERR_MAINTENANCE: { status: 503, text: 'down for maintenance; try again later' },
  FLEET_ERR_UPSTREAM_FAILED: { status: 502, text: 'invalid response from upstream' },
  FLEET_ERR_UPSTREAM_TIMEOUT: { status: 504, text: 'upstream timed out' },
  FLEET_ERR_REQUEST_INVALID: { status: 400, text: 'invalid request' },
  FLEET_ERR_METHOD_REFUSED: { status: 405, text: 'method is not allowed' },
  FLEET_ERR_BODY_TOO_LARGE: { status: 413, text: 'request body is too large' },
  FLEET_ERR_HEADERS_TOO_LARGE: { status: 431, text: 'request headers are too large' },
  FLEET_ERR_REQUEST_TIMEOUT: { status: 408, text: 'request timed out' },
  FLEET_ERR_VERSION_UNSUPPORTED: { status: 505, text: 'HTTP version is not supported' },
  FLEET_ERR_PIPELINE_LIMIT: { status: 429, text: 'too many requests in flight on one connection' },
  FLEET_ERR_PATH_BLOCKED: { status: 404, text: 'not found' },
  FLEET_ERR_TOKEN_MISSING: { status: 401, text: 'access token required' },
  FLEET_ERR_TOKEN_INVALID: { status: 401, text: 'token is invalid' },
  FLEET_ERR_TOKEN_EXPIRED: { status: 401, text: 'token has expired' },
  FLEET_ERR_TOKEN_REVOKED: { status: 401, text: 'token has been revoked' },
  FLEET_ERR_TOKEN_REUSED: { status: 401, text: 'refresh token was used before; its session has ended' },
  FLEET_ERR_COMMAND_TIMEOUT: { status: 504, text: 'instance did not confirm the command in time' },
  FLEET_ERR_LOCK_BUSY: { status: 503, text: 'lock is held by another holder' },
  FLEET_ERR_LOCK_LOST: { status: 503, text: 'lock was lost' },
  FLEET_ERR_WORKER_NOT_READY: { status: 500, text: 'worker did not become ready' },
  FLEET_ERR_RELOAD_FAILED: { status: 500, text: 'reload failed' },
  FLEET_ERR_DEPLOY_FAILED: { status: 500, text: 'deploy failed and was rolled back' },
  FLEET_ERR_ROLLBACK_FAILED: { status: 500, text: 'deploy and rollback failed' },
  FLEET_ERR_CONTROL: { status: 500, text: 'control socket is unusable' },
  FLEET_ERR_PACKAGE_MISSING: { status: 500, text: 'optional package is not installed' },
  FLEET_ERR_DATABASE_UNAVAILABLE: { status: 503, text: 'database is unavailable; try again' },
  FLEET_ERR_DATABASE_BUSY: { status: 503, text: 'database is overloaded; try again' },
  FLEET_ERR_RECORD_EXISTS: { status: 409, text: 'record already exists' },
  FLEET_ERR_RECORD_IN_USE: { status: 409, text: 'record is referenced by another record or references a missing one' },
  FLEET_ERR_RECORD_UNKNOWN: { status: 404, text: 'record not found' },
  FLEET_ERR_RECORD_INVALID: { status: 400, text: 'invalid value for the database' },
  FLEET_ERR_ORIGIN_REFUSED: { status: 403, text: 'pages of this origin may not connect' },
  FLEET_ERR_ROUTE_UNKNOWN: { status: 404, text: 'route not found' },
  FLEET_ERR_LOGIN_FAILED: { status: 401, text: 'wrong e-mail address or password' },
  FLEET_ERR_MIGRATION_INVALID: { status: 500, text: 'migrations are unusable' },
  FLEET_ERR_MIGRATION_CHANGED: { status: 500, text: 'applied migration was changed' },
  FLEET_ERR_MIGRATION_FAILED: { status: 500, text: 'migration failed' },
  FLEET_ERR_SEED_IN_PRODUCTION: { status: 500, text: 'development data must not be seeded in production' },
  FLEET_ERR_MIGRATION_LOCKED: { status: 503, text: 'another process is applying migrations' },
  FLEET_ERR_CACHE_KEY_INVALID: { status: 500, text: 'invalid cache key' },
  FLEET_ERR_CACHE_VALUE_INVALID: { status: 500, text: 'cache value is not serializable' },
  FLEET_ERR_CACHE_VALUE_TOO_LARGE: { status: 500, text: 'value is too large for the cache' },
  FLEET_ERR_CACHE_TIMEOUT: { status: 503, text: 'value was not loaded in time' },
  FLEET_ERR_RATE_LIMITED: { status: 429, text: 'too many requests' },
  FLEET_ERR_IDEMPOTENCY_KEY_MISSING: { status: 400, text: 'Idempotency-Key required' },
  FLEET_ERR_IDEMPOTENCY_KEY_INVALID: { status: 400, text: 'Idempotency-Key is invalid' },
  FLEET_ERR_IDEMPOTENCY_KEY_REUSED: { status: 422, text: 'Idempotency-Key was used for another request' },
  FLEET_ERR_IDEMPOTENCY_IN_FLIGHT: { status: 409, text: 'first request with this Idempotency-Key is in flight' },
  FLEET_ERR_IDEMPOTENCY_ANSWER_LOST: { status: 409, text: 'request was completed, but its response was not stored' },
} as const satisfies Record<string, { status: number; text: string }>

export type FleetErrorCode = keyof typeof table

/** All codes, for the guard test of `docs/errors.md`. */
export const errorCodes: readonly FleetErrorCode[] = Object.keys(table) as FleetErrorCode[]

export interface FleetErrorOptions {
  /** The lower-level error. It is logged, never sent to a client. */
  cause?: unknown
  /** Seconds that a client should wait before it retries; sent as `Retry-After`. */
  retryAfter?: number
  /** The whole message, for errors that must match another package's. @default the table's text and `detail` */
  message?: string
}

/** An error with a stable `code` and the HTTP status of its response if a handler throws it. */
export class FleetError extends Error {
  override readonly name = 'FleetError'
  readonly code: FleetErrorCode
  readonly statusCode: number
  readonly headers?: Record<string, string>

  /**
   * @param code one of the table above
   * @param detail the problem, the value and the fix; sent to clients if the status is below 500
   */
  constructor(code: FleetErrorCode, detail?: string, options: FleetErrorOptions = {}) {
    const { text } = table[code]
    super(options.message ?? (detail ? `${text}: ${detail}` : text), { cause: options.cause })
    this.code = code
    this.statusCode = table[code].status
    if (options.retryAfter !== undefined) this.headers = { 'retry-after': String(options.retryAfter) }
  }
}
