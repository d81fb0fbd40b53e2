import { lookup } from '../base/dictionary.ts'
import { FleetError, type FleetErrorCode } from '../base/errors.ts'

/** The parts of Prisma's errors in use. Errors are recognized by shape, because Prisma may not be installed. */
interface PrismaError {
  code?: unknown
  message?: unknown
  /** On every error of Prisma. */
  clientVersion?: unknown
  meta?: { driverAdapterError?: { cause?: { kind?: unknown; originalCode?: unknown } } }
}

/** Prisma's codes: https://www.prisma.io/docs/orm/reference/error-reference */
const prismaCodes: Readonly<Record<string, FleetErrorCode>> = {
  P1000: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P1001: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P1002: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P1003: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P1008: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P1010: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P1011: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P1017: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P2000: 'FLEET_ERR_RECORD_INVALID',
  P2002: 'FLEET_ERR_RECORD_EXISTS',
  P2003: 'FLEET_ERR_RECORD_IN_USE',
  P2004: 'FLEET_ERR_RECORD_INVALID',
  P2007: 'FLEET_ERR_RECORD_INVALID',
  P2011: 'FLEET_ERR_RECORD_INVALID',
  P2014: 'FLEET_ERR_RECORD_IN_USE',
  P2015: 'FLEET_ERR_RECORD_UNKNOWN',
  P2018: 'FLEET_ERR_RECORD_UNKNOWN',
  P2020: 'FLEET_ERR_RECORD_INVALID',
  P2024: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P2025: 'FLEET_ERR_RECORD_UNKNOWN',
  P2028: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P2034: 'FLEET_ERR_DATABASE_UNAVAILABLE',
  P2037: 'FLEET_ERR_DATABASE_UNAVAILABLE',
}

/** Errors without a Prisma code, by SQLSTATE or by its first two digits, the class. */
const sqlStates = lookup<Readonly<Record<string, FleetErrorCode>>>({
  '08': 'FLEET_ERR_DATABASE_UNAVAILABLE', // connection exception
  '22': 'FLEET_ERR_RECORD_INVALID', // data exception, e.g. a zero byte in a text
  23503: 'FLEET_ERR_RECORD_IN_USE',
  23505: 'FLEET_ERR_RECORD_EXISTS',
  23: 'FLEET_ERR_RECORD_INVALID', // any other constraint
  25006: 'FLEET_ERR_DATABASE_UNAVAILABLE', // read only: a primary that has just become a replica
  40: 'FLEET_ERR_DATABASE_UNAVAILABLE', // rolled back: serialization failure, deadlock
  53: 'FLEET_ERR_DATABASE_UNAVAILABLE', // out of connections, memory or disk
  '55P03': 'FLEET_ERR_DATABASE_UNAVAILABLE', // lock timeout
  57: 'FLEET_ERR_DATABASE_UNAVAILABLE', // shutting down, starting up, statement timeout
})

/** `pg` raises these as plain errors, and Prisma passes them through. */
const connectionErrors: RegExp =
  /^(timeout exceeded when trying to connect|query read timeout|connection terminated|client has encountered a connection error|client network socket disconnected|cannot use a pool after|getaddrinfo E|connect E|read E|write E)/i

/**
 * Prisma passes on the code of a system error that its adapter does not know, such as `EAI_AGAIN` of a name server, or
 * `EINVAL` of one that is asked without a free file descriptor. Node's own codes, `ERR_…`, are defects.
 */
const systemCodes: RegExp = /^E(?!RR_)[A-Z_]+$/
const isSystemError = ({ code, clientVersion }: PrismaError): boolean =>
  typeof clientVersion === 'string' && systemCodes.test(String(code))

/** Prisma wraps errors of our pools in its own, and keeps our code. */
const ours: ReadonlySet<unknown> = new Set<FleetErrorCode>([
  'FLEET_ERR_DATABASE_BUSY',
  'FLEET_ERR_DATABASE_UNAVAILABLE',
])

/** SQLSTATE of an error that came from PostgreSQL through Prisma. */
export function sqlState(error: unknown): string | undefined {
  const state = (error as PrismaError | null)?.meta?.driverAdapterError?.cause?.originalCode
  return typeof state === 'string' ? state : undefined
}

function classify(error: PrismaError): FleetErrorCode | undefined {
  if (ours.has(error.code)) return error.code as FleetErrorCode
  const state = sqlState(error)
  if (state !== undefined) {
    const known = sqlStates[state] ?? sqlStates[state.slice(0, 2)]
    if (known) return known
  }
  const kind = error.meta?.driverAdapterError?.cause?.kind
  if (kind === 'DatabaseNotReachable' || kind === 'ConnectionClosed' || kind === 'SocketTimeout')
    return 'FLEET_ERR_DATABASE_UNAVAILABLE'
  if (typeof error.code === 'string' && Object.hasOwn(prismaCodes, error.code)) return prismaCodes[error.code]
  if (isSystemError(error)) return 'FLEET_ERR_DATABASE_UNAVAILABLE'
  return typeof error.message === 'string' && connectionErrors.test(error.message)
    ? 'FLEET_ERR_DATABASE_UNAVAILABLE'
    : undefined
}

/**
 * Translates an error of Prisma into one for the client: 404 for a missing record, 409 for a conflict, 400 for a value that
 * the database rejects, 503 with `Retry-After` when the database is unavailable. Prisma's message, which names hosts and
 * columns, becomes the cause.
 *
 * @returns `undefined` for any other error: it is a defect and results in a 500
 */
export function databaseError(error: unknown): FleetError | undefined {
  if (error instanceof FleetError || typeof error !== 'object' || error === null) return undefined
  const code = classify(error as PrismaError)
  if (code === undefined) return undefined
  return new FleetError(code, undefined, {
    cause: error,
    retryAfter: ours.has(code) ? 1 : undefined,
  })
}

/** Whether the server is unreachable or accepts no connections, so that another one may be used instead. */
export function isUnreachable(error: unknown): boolean {
  const { code, message, meta } = (error ?? {}) as PrismaError
  const { kind } = meta?.driverAdapterError?.cause ?? {}
  return (
    code === 'FLEET_ERR_DATABASE_UNAVAILABLE' ||
    /^(08|53|57P0)/.test(String(sqlState(error))) ||
    /^P1(00[0-3]|01[017])$/.test(String(code)) ||
    kind === 'DatabaseNotReachable' ||
    kind === 'ConnectionClosed' ||
    isSystemError((error ?? {}) as PrismaError) ||
    (connectionErrors.test(String(message)) && !/^(timeout exceeded|query read)/i.test(String(message)))
  )
}

/** Whether the server could not serve, and not just this query: no deadlock, lock timeout or full pool. */
export function isOutage(error: unknown): boolean {
  const isUnavailable = databaseError(error)?.code === 'FLEET_ERR_DATABASE_UNAVAILABLE'
  return isUnavailable && !isSaturated(error) && !/^(?:40|55)/.test(String(sqlState(error))) && !isConflict(error)
}
/** Prisma's code of a deadlock or failed serialization. */
const isConflict = (error: unknown): boolean => (error as PrismaError).code === 'P2034'

/**
 * SQLSTATEs, or their first two digits, of a healthy replica that cannot run a statement which the primary may run: it is
 * read only, in recovery, cancels a query that conflicts with recovery, or has a damaged or missing file.
 */
const primaryOnly: RegExp = /^(?:25006|0A000|55000|40001|40P01|XX|58)/

/** Whether a replica rejected a read that the primary may run. The replica is not at fault. */
export const needsPrimary = (error: unknown): boolean => primaryOnly.test(String(sqlState(error)))

/** Whether no connection of the pool became free in time, which does not mean that the server is unreachable. */
export function isSaturated(error: unknown): boolean {
  const { code, message } = (error ?? {}) as PrismaError
  return (
    code === 'P2024' ||
    code === 'FLEET_ERR_DATABASE_BUSY' ||
    /^timeout exceeded when trying to connect/.test(String(message))
  )
}
