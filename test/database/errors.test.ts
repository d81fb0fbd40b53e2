import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FleetError } from '../../src/base/errors.ts'
import {
  databaseError,
  isOutage,
  isSaturated,
  isUnreachable,
  needsPrimary,
  sqlState,
} from '../../src/database/errors.ts'
import { failure } from './fake-servers.ts'

const prisma = (code: string): object => ({ code, message: 'Prisma' })
const ofKind = (kind: string): object => ({ code: 'P2010', meta: { driverAdapterError: { cause: { kind } } } })
const said = (message: string): Error => new Error(message)
const codeOf = (error: unknown): string | undefined => databaseError(error)?.code.replace(/^FLEET_ERR_/, '')

/** Errors without the parts that tell what happened. */
const bare = [{}, { meta: {} }, { meta: { driverAdapterError: {} } }]

describe('an error with an SQLSTATE', () => {
  const codes: Record<string, readonly string[]> = {
    DATABASE_UNAVAILABLE: [
      ...['08000', '08006', '08P01', '25006', '40001', '40P01', '53000', '53100', '53200', '53300'],
      ...['55P03', '57014', '57P01', '57P03'],
    ],
    RECORD_INVALID: ['22000', '22021', '22P02', '23000', '23502', '23514', '23P01'],
    RECORD_IN_USE: ['23503'],
    RECORD_EXISTS: ['23505'],
    undefined: ['25001', '42601', '42883', '55000', '55006', '0A000', 'P0001', 'XX000', '58030', ''],
  }
  for (const [code, states] of Object.entries(codes))
    it(`${states.join(', ')}: ${code}`, () => {
      for (const state of states) assert.equal(String(codeOf(failure(state))), code, state)
    })

  it('follows the SQLSTATE, and the code of Prisma only without a known one', () => {
    assert.equal(codeOf(Object.assign(failure('23505'), { code: 'P2003' })), 'RECORD_EXISTS')
    assert.equal(codeOf(Object.assign(failure('42601'), { code: 'P2003' })), 'RECORD_IN_USE')
    assert.equal(sqlState(failure('23505')), '23505')
    assert.equal(sqlState({ meta: { driverAdapterError: { cause: { originalCode: 23_505 } } } }), undefined)
    assert.equal(databaseError(failure('23505'))?.headers, undefined, 'a retry would fail again')
    for (const nothing of [null, undefined, {}, { meta: {} }]) assert.equal(sqlState(nothing), undefined)
  })
})

describe('an error of Prisma', () => {
  const codes: Record<string, string> = {
    P1000: 'DATABASE_UNAVAILABLE',
    P1001: 'DATABASE_UNAVAILABLE',
    P1002: 'DATABASE_UNAVAILABLE',
    P1003: 'DATABASE_UNAVAILABLE',
    P1008: 'DATABASE_UNAVAILABLE',
    P1010: 'DATABASE_UNAVAILABLE',
    P1011: 'DATABASE_UNAVAILABLE',
    P1017: 'DATABASE_UNAVAILABLE',
    P2000: 'RECORD_INVALID',
    P2001: 'undefined',
    P2002: 'RECORD_EXISTS',
    P2003: 'RECORD_IN_USE',
    P2004: 'RECORD_INVALID',
    P2007: 'RECORD_INVALID',
    P2010: 'undefined',
    P2011: 'RECORD_INVALID',
    P2014: 'RECORD_IN_USE',
    P2015: 'RECORD_UNKNOWN',
    P2018: 'RECORD_UNKNOWN',
    P2020: 'RECORD_INVALID',
    P2024: 'DATABASE_UNAVAILABLE',
    P2025: 'RECORD_UNKNOWN',
    P2028: 'DATABASE_UNAVAILABLE',
    P2034: 'DATABASE_UNAVAILABLE',
    P2037: 'DATABASE_UNAVAILABLE',
    toString: 'undefined',
  }
  for (const [code, expected] of Object.entries(codes))
    it(`${code}: ${expected}`, () => assert.equal(String(codeOf(prisma(code))), expected))

  it('is unavailability when its driver lost the server', () => {
    for (const kind of ['DatabaseNotReachable', 'ConnectionClosed', 'SocketTimeout'])
      assert.equal(codeOf(ofKind(kind)), 'DATABASE_UNAVAILABLE', kind)
    assert.equal(codeOf(ofKind('TableDoesNotExist')), undefined)
  })

  it('is unavailability when the connection fails, and otherwise a defect', () => {
    for (const message of [
      'timeout exceeded when trying to connect',
      'Query read timeout',
      'Connection terminated unexpectedly',
      'Client has encountered a connection error and is not queryable',
      'Cannot use a pool after calling end on the pool',
      'connect ECONNREFUSED 127.0.0.1:5432',
      'getaddrinfo ENOTFOUND db.example',
      'Client network socket disconnected before secure TLS connection was established',
      'read ECONNRESET',
      'write EPIPE',
    ]) {
      assert.equal(codeOf(said(message)), 'DATABASE_UNAVAILABLE', message)
      assert.equal(codeOf(said(`x ${message}`)), undefined, message)
    }
    for (const other of [new FleetError('FLEET_ERR_DATABASE_BUSY'), 'connect E', null, undefined, ...bare])
      assert.equal(databaseError(other), undefined)
  })

  it('is unavailability when Prisma passes on a system error, and not that of another library', () => {
    const codes = [
      'EAI_AGAIN',
      'ENOTFOUND',
      'ECONNABORTED',
      'EHOSTUNREACH',
      'ENETDOWN',
      'ETIMEDOUT',
      'EMFILE',
      'EINVAL',
    ]
    for (const code of codes) {
      assert.equal(codeOf({ code, clientVersion: '7.0.0' }), 'DATABASE_UNAVAILABLE', code)
      assert.equal(codeOf({ code }), undefined, code)
    }
    for (const code of ['ERR_INVALID_ARG_TYPE', 'ETIMEDOUT2', 'XEAI_AGAIN', undefined])
      assert.equal(codeOf({ code, clientVersion: '7.0.0' }), undefined, code)
  })

  it('of a pool keeps its code, its cause and a Retry-After of one second', () => {
    for (const code of ['FLEET_ERR_DATABASE_BUSY', 'FLEET_ERR_DATABASE_UNAVAILABLE']) {
      const cause = { code, message: 'in the pool' }
      const error = databaseError(cause)
      assert.deepEqual([error?.code, error?.headers, error?.cause], [code, { 'retry-after': '1' }, cause])
    }
    assert.equal(databaseError({ code: 'FLEET_ERR_SECRET_WEAK' }), undefined)
  })
})

describe('whether a server is unreachable', () => {
  it('follows the code, the SQLSTATE, the driver or the message', () => {
    const unreachable = [
      ...['P1000', 'P1001', 'P1002', 'P1003', 'P1010', 'P1011', 'P1017', 'FLEET_ERR_DATABASE_UNAVAILABLE'].map(prisma),
      ...['08006', '53300', '57P01', '57P03'].map(failure),
      ...['DatabaseNotReachable', 'ConnectionClosed'].map(ofKind),
      ...['connect ECONNREFUSED', 'Connection terminated unexpectedly', 'read ECONNRESET'].map(said),
      { code: 'EAI_AGAIN', clientVersion: '7.0.0' },
    ]
    const reachable = [
      ...['P1004', 'P1008', 'P1012', 'P1018', 'P2024', 'P2028', 'P10010', 'FLEET_ERR_DATABASE_BUSY'].map(prisma),
      ...['40001', '55P03', '57014', '25006', '10853'].map(failure),
      ...['SocketTimeout', 'TableDoesNotExist'].map(ofKind),
      ...['timeout exceeded when trying to connect', 'Query read timeout', 'a defect'].map(said),
      ...[null, undefined, ...bare],
    ]
    for (const error of unreachable) assert.equal(isUnreachable(error), true, JSON.stringify(error))
    for (const error of reachable) assert.equal(isUnreachable(error), false, JSON.stringify(error))
  })
})

describe('whether a server is out of service', () => {
  it('does not follow from a conflict, a lock timeout or a full pool', () => {
    const outage = [
      ...['08006', '25006', '53300', '57P01', '57014'].map(failure),
      ...['P1001', 'P1008', 'P2028', 'P2037', 'FLEET_ERR_DATABASE_UNAVAILABLE'].map(prisma),
      said('Query read timeout'),
    ]
    const none = [
      ...['40001', '40P01', '55P03', '23505', '42601'].map(failure),
      ...['P2034', 'P2024', 'P2025', 'FLEET_ERR_DATABASE_BUSY'].map(prisma),
      ...['timeout exceeded when trying to connect', 'a defect'].map(said),
      null,
    ]
    for (const error of outage) assert.equal(isOutage(error), true, JSON.stringify(error))
    for (const error of none) assert.equal(isOutage(error), false, JSON.stringify(error))
  })

  it('a full pool is recognized by the code of Prisma, of our pool or the message of pg', () => {
    for (const error of [
      prisma('P2024'),
      prisma('FLEET_ERR_DATABASE_BUSY'),
      said('timeout exceeded when trying to connect'),
    ])
      assert.equal(isSaturated(error), true)
    for (const error of [
      prisma('P2028'),
      said('a timeout exceeded when trying to connect'),
      said('Query read timeout'),
      null,
    ])
      assert.equal(isSaturated(error), false)
  })

  it('a statement needs the primary by its SQLSTATE only', () => {
    assert.equal(needsPrimary(failure('25006')), true)
    for (const error of [failure('125006'), prisma('25006'), said('25006'), null])
      assert.equal(needsPrimary(error), false)
  })
})
