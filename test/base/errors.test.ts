import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { errorCodes, FleetError } from '../../src/base/errors.ts'

/** Every status but 500, which the others have. */
const expected: Readonly<Record<number, string>> = {
  400: 'USAGE REQUEST_INVALID RECORD_INVALID IDEMPOTENCY_KEY_MISSING IDEMPOTENCY_KEY_INVALID',
  401: 'SIGN_IN_FAILED TOKEN_MISSING TOKEN_INVALID TOKEN_EXPIRED TOKEN_REVOKED TOKEN_REUSED LOGIN_FAILED',
  403: 'ORIGIN_UNPROVEN ORIGIN_REFUSED',
  404: 'NOT_OPERATOR INSTANCE_UNKNOWN PATH_BLOCKED RECORD_UNKNOWN ROUTE_UNKNOWN',
  405: 'METHOD_REFUSED',
  408: 'REQUEST_TIMEOUT',
  409: 'RECORD_EXISTS RECORD_IN_USE IDEMPOTENCY_IN_FLIGHT IDEMPOTENCY_ANSWER_LOST',
  413: 'SESSION_TOO_LARGE MESSAGE_TOO_LARGE BODY_TOO_LARGE',
  422: 'IDEMPOTENCY_KEY_REUSED',
  429: 'PIPELINE_LIMIT RATE_LIMITED',
  431: 'HEADERS_TOO_LARGE',
  502: 'UNREACHABLE DRAINING UPSTREAM_FAILED',
  503: 'CHECK_TIMEOUT OVERLOADED STATE_UNAVAILABLE STATE_FULL NO_TARGET QUEUE_FULL MAINTENANCE LOCK_BUSY LOCK_LOST DATABASE_UNAVAILABLE DATABASE_BUSY MIGRATION_LOCKED CACHE_TIMEOUT',
  504: 'UPSTREAM_TIMEOUT COMMAND_TIMEOUT',
  505: 'VERSION_UNSUPPORTED',
}

describe('an error', () => {
  it('has the status of its code', () => {
    const { 500: internal, ...others } = Object.groupBy(errorCodes, (code) => new FleetError(code).statusCode)
    const names = Object.entries(others).map(([status, codes = []]) => [
      status,
      codes.map((code) => code.replace('FLEET_ERR_', '')).join(' '),
    ])
    assert.deepEqual(Object.fromEntries(names), expected)
    assert.ok(internal?.includes('FLEET_ERR_INTERNAL'))
  })

  it('says the text of its code, with the detail behind it, or a message of its own', () => {
    assert.equal(new FleetError('FLEET_ERR_DRAINING').message, 'instance is draining; retry on another instance')
    assert.equal(new FleetError('FLEET_ERR_LOCK_BUSY', 'a').message, 'lock is held by another holder: a')
    assert.equal(new FleetError('FLEET_ERR_LOCK_BUSY', 'a', { message: 'b' }).message, 'b')
  })

  it('carries its name, code and cause, and Retry-After only if it has one', () => {
    const cause = new Error('below')
    const error = new FleetError('FLEET_ERR_OVERLOADED', undefined, { cause, retryAfter: 0 })
    assert.deepEqual([error.name, error.code, error.cause], ['FleetError', 'FLEET_ERR_OVERLOADED', cause])
    assert.deepEqual(error.headers, { 'retry-after': '0' })
    assert.equal(new FleetError('FLEET_ERR_OVERLOADED').headers, undefined)
  })
})
