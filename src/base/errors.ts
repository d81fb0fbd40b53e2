/**
 * Every error this toolkit raises on purpose, in one table. `docs/errors.md` explains each one; a guard test compares
 * the two both ways. A retired code is never used again.
 */
const table = {
  FLEET_ERR_OPTION_UNKNOWN: { status: 500, text: 'unknown option' },
  FLEET_ERR_OPTION_INVALID: { status: 500, text: 'invalid option' },
  FLEET_ERR_ENV_INVALID: { status: 500, text: 'invalid environment variable' },
  FLEET_ERR_USAGE: { status: 400, text: 'wrong command line' },
  FLEET_ERR_UNREACHABLE: { status: 502, text: 'cannot be reached' },
  FLEET_ERR_NOT_OPERATOR: { status: 404, text: 'only operators may do this' },
  FLEET_ERR_ORIGIN_UNPROVEN: { status: 403, text: 'the request does not show that no page of another site sent it' },
  FLEET_ERR_SIGN_IN_FAILED: { status: 401, text: 'wrong token, or a link that was used or has expired' },
  FLEET_ERR_MEMORY_IN_PRODUCTION: { status: 500, text: 'state would live in memory in production' },
  FLEET_ERR_SECRET_MISSING: { status: 500, text: 'a secret is missing' },
  FLEET_ERR_SECRET_WEAK: { status: 500, text: 'a secret is too short' },
  FLEET_ERR_CHECK_EXISTS: { status: 500, text: 'a health check of this name exists already' },
  FLEET_ERR_CHECK_TIMEOUT: { status: 503, text: 'the health check did not answer in time' },
  FLEET_ERR_INSTANCE_UNKNOWN: { status: 404, text: 'no such instance' },
  FLEET_ERR_INTERNAL: { status: 500, text: 'internal server error' },
  FLEET_ERR_DRAINING: { status: 502, text: 'this instance is draining; send the request to another one' },
  FLEET_ERR_OVERLOADED: { status: 503, text: 'this instance has more to do than it can; try again' },
  FLEET_ERR_STATE_UNAVAILABLE: { status: 503, text: 'the shared state does not answer; try again' },
  FLEET_ERR_STATE_FULL: { status: 503, text: 'the shared state is full; try again later' },
  FLEET_ERR_SESSION_TOO_LARGE: { status: 413, text: 'the session is too large' },
  FLEET_ERR_MESSAGE_TOO_LARGE: { status: 413, text: 'the message is too large' },
  FLEET_ERR_SESSION_VALUE_INVALID: { status: 500, text: 'a session holds what is not data' },
  FLEET_ERR_PROGRAM_MISSING: { status: 500, text: 'a program is missing' },
  FLEET_ERR_SERVICE_FAILED: { status: 500, text: 'a server did not start' },
  FLEET_ERR_PORT_TAKEN: { status: 500, text: 'a port is taken' },
  FLEET_ERR_GEO_DATABASE: { status: 500, text: 'the MaxMind database cannot be used' },
  FLEET_ERR_TARGET_INVALID: { status: 500, text: 'invalid target' },
  FLEET_ERR_NO_TARGET: { status: 503, text: 'no target can take the request' },
  FLEET_ERR_QUEUE_FULL: { status: 503, text: 'too many requests wait for a target' },
  FLEET_ERR_UPSTREAM_FAILED: { status: 502, text: 'the target did not answer properly' },
  FLEET_ERR_UPSTREAM_TIMEOUT: { status: 504, text: 'the target did not answer in time' },
  FLEET_ERR_REQUEST_INVALID: { status: 400, text: 'the request cannot be understood' },
  FLEET_ERR_METHOD_REFUSED: { status: 405, text: 'the method is not passed on' },
  FLEET_ERR_BODY_TOO_LARGE: { status: 413, text: 'the request body is too large' },
  FLEET_ERR_HEADERS_TOO_LARGE: { status: 431, text: 'the request headers are too large' },
  FLEET_ERR_REQUEST_TIMEOUT: { status: 408, text: 'the request did not arrive in time' },
  FLEET_ERR_VERSION_UNSUPPORTED: { status: 505, text: 'the HTTP version is not supported' },
  FLEET_ERR_PIPELINE_LIMIT: { status: 429, text: 'too many requests in flight on one connection' },
  FLEET_ERR_PATH_BLOCKED: { status: 404, text: 'not found' },
  FLEET_ERR_TOKEN_MISSING: { status: 401, text: 'an access token is required' },
  FLEET_ERR_TOKEN_INVALID: { status: 401, text: 'the token is not valid' },
  FLEET_ERR_TOKEN_EXPIRED: { status: 401, text: 'the token has expired' },
  FLEET_ERR_TOKEN_REVOKED: { status: 401, text: 'the token has been revoked' },
  FLEET_ERR_TOKEN_REUSED: { status: 401, text: 'the refresh token was used before; its session has been ended' },
  FLEET_ERR_COMMAND_TIMEOUT: { status: 504, text: 'the instance did not confirm the command in time' },
  FLEET_ERR_LOCK_BUSY: { status: 503, text: 'the lock is held by another' },
  FLEET_ERR_LOCK_LOST: { status: 503, text: 'the lock was lost while it was held' },
  FLEET_ERR_WORKER_NOT_READY: { status: 500, text: 'a worker did not become ready' },
  FLEET_ERR_RELOAD_FAILED: { status: 500, text: 'the reload was abandoned' },
  FLEET_ERR_DEPLOY_FAILED: { status: 500, text: 'the deploy failed and was rolled back' },
  FLEET_ERR_ROLLBACK_FAILED: { status: 500, text: 'the deploy failed, and so did its rollback' },
  FLEET_ERR_CONTROL: { status: 500, text: 'the control socket cannot be used' },
  FLEET_ERR_PACKAGE_MISSING: { status: 500, text: 'an optional package is not installed' },
  FLEET_ERR_DATABASE_UNAVAILABLE: { status: 503, text: 'the database does not answer; try again' },
  FLEET_ERR_DATABASE_BUSY: { status: 503, text: 'the database has too much to do; try again' },
  FLEET_ERR_RECORD_EXISTS: { status: 409, text: 'there is such a record already' },
  FLEET_ERR_RECORD_IN_USE: { status: 409, text: 'the record depends on another, or another on it' },
  FLEET_ERR_RECORD_UNKNOWN: { status: 404, text: 'no such record' },
  FLEET_ERR_RECORD_INVALID: { status: 400, text: 'the database refuses this value' },
  FLEET_ERR_ROUTE_UNKNOWN: { status: 404, text: 'there is no such path' },
  FLEET_ERR_ORIGIN_REFUSED: { status: 403, text: 'pages of this origin may not connect' },
  FLEET_ERR_LOGIN_FAILED: { status: 401, text: 'wrong e-mail address or password' },
  FLEET_ERR_MIGRATION_INVALID: { status: 500, text: 'the migrations cannot be used' },
  FLEET_ERR_MIGRATION_CHANGED: { status: 500, text: 'a migration was changed after it had been applied' },
  FLEET_ERR_MIGRATION_FAILED: { status: 500, text: 'a migration failed' },
  FLEET_ERR_SEED_IN_PRODUCTION: { status: 500, text: 'development data is not for production' },
  FLEET_ERR_MIGRATION_LOCKED: { status: 503, text: 'another process holds the lock for migrations' },
  FLEET_ERR_CACHE_KEY_INVALID: { status: 500, text: 'the cache cannot use this key' },
  FLEET_ERR_CACHE_VALUE_INVALID: { status: 500, text: 'the cache cannot keep this value' },
  FLEET_ERR_CACHE_VALUE_TOO_LARGE: { status: 500, text: 'the value is too large for the cache' },
  FLEET_ERR_CACHE_TIMEOUT: { status: 503, text: 'the value was not loaded in time' },
  FLEET_ERR_RATE_LIMITED: { status: 429, text: 'too many requests' },
  FLEET_ERR_IDEMPOTENCY_KEY_MISSING: { status: 400, text: 'this request needs an Idempotency-Key' },
  FLEET_ERR_IDEMPOTENCY_KEY_INVALID: { status: 400, text: 'the Idempotency-Key is not valid' },
  FLEET_ERR_IDEMPOTENCY_KEY_REUSED: { status: 422, text: 'this Idempotency-Key was used for another request' },
  FLEET_ERR_IDEMPOTENCY_IN_FLIGHT: { status: 409, text: 'the first request with this Idempotency-Key is in flight' },
  FLEET_ERR_IDEMPOTENCY_ANSWER_LOST: { status: 409, text: 'the request was done, but its answer was not kept' },
} as const satisfies Record<string, { status: number; text: string }>

export type FleetErrorCode = keyof typeof table

/** All codes, for the guard test that holds them against `docs/errors.md`. */
export const errorCodes: readonly FleetErrorCode[] = Object.keys(table) as FleetErrorCode[]

export interface FleetErrorOptions {
  /** The lower-level error. It is logged, never sent to a client. */
  cause?: unknown
  /** Seconds a client should wait before it tries again; sent as `Retry-After`. */
  retryAfter?: number
  /** The whole message, where another package's words are promised. @default what the table says, then `detail` */
  message?: string
}

/** An error with a stable `code` and the HTTP status a client sees when it escapes a handler. */
export class FleetError extends Error {
  override readonly name = 'FleetError'
  readonly code: FleetErrorCode
  readonly statusCode: number
  readonly headers?: Record<string, string>

  /**
   * @param code one of the table above
   * @param detail what is wrong, with which value, and the mend; it may reach a client when the status is below 500
   */
  constructor(code: FleetErrorCode, detail?: string, options: FleetErrorOptions = {}) {
    const { text } = table[code]
    super(options.message ?? (detail ? `${text}: ${detail}` : text), { cause: options.cause })
    this.code = code
    this.statusCode = table[code].status
    if (options.retryAfter !== undefined) this.headers = { 'retry-after': String(options.retryAfter) }
  }
}
