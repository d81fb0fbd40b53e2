import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FleetError } from '../../../src/base/errors.ts'
import {
  isBreak,
  isOurFault,
  isRepeatable,
  isSafe,
  pauseMs,
  withRetryHeader,
} from '../../../src/edge/balancer/retry-rules.ts'
import { HeaderLines } from '../../../src/edge/http/headers.ts'
import { balancerDefaults } from './stub.ts'

const withCode = (code: string): Error => Object.assign(new Error(code), { code })
const request = (options: object) => ({ path: '/', method: 'GET', ...options }) as Parameters<typeof isRepeatable>[0]

describe('retry rules', () => {
  it('have these defaults', () => {
    assert.deepEqual(
      { ...balancerDefaults.retry },
      {
        attempts: 3,
        statuses: [502, 503],
        suspects: true,
        idempotencyKey: false,
        budget: 0.2,
        minPerSecond: 10,
        hedgeMs: 0,
      },
    )
    const { size, timeoutMs } = balancerDefaults.queue
    assert.deepEqual([size, timeoutMs], [1024, 5000])
  })

  it('call GET, HEAD, OPTIONS and QUERY safe, and no other method', () => {
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'QUERY']) assert.equal(isSafe(method), true, method)
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'CONNECT', 'get']) {
      assert.equal(isSafe(method), false, method)
    }
  })

  it('repeat a safe request whose body can be sent again', () => {
    for (const body of [null, undefined, '', 'x', Buffer.from('x'), new Uint8Array(1)]) {
      assert.equal(isRepeatable(request({ body }), false), true, String(body))
    }
    for (const body of [(async function* () {})(), { pipe() {} }, new FormData()]) {
      assert.equal(isRepeatable(request({ body }), true), false, String(body))
    }
  })

  it('repeat another request with an Idempotency-Key in any form of headers, if the option is on', () => {
    const lines = new HeaderLines()
    lines.push('x-a', 'b')
    lines.push('idempotency-key', 'k')
    for (const headers of [
      { 'x-a': 'b', 'Idempotency-Key': 'k' },
      ['x-a', 'b', 'Idempotency-Key', 'k'],
      new Map([['Idempotency-Key', 'k']]),
      lines,
    ]) {
      const keyed = request({ method: 'POST', body: 'x', headers })
      assert.deepEqual([isRepeatable(keyed, true), isRepeatable(keyed, false)], [true, false])
    }
    for (const headers of [undefined, null, {}, ['x-a', 'idempotency-key'], { 'x-idempotency-key': 'k' }]) {
      assert.equal(isRepeatable(request({ method: 'POST', headers }), true), false)
    }
    const stream = request({ method: 'POST', headers: { 'idempotency-key': 'k' }, body: { pipe() {} } })
    assert.equal(isRepeatable(stream, true), false)
  })

  it('pause from the third attempt on, twice as long each time, at random around 40 ms', (t) => {
    const random = t.mock.method(Math, 'random', () => 0)
    assert.deepEqual([1, 2, 3, 4, 5].map(pauseMs), [0, 0, 20, 40, 80])
    random.mock.mockImplementation(() => 0.5)
    assert.deepEqual([1, 2, 3, 4, 5].map(pauseMs), [0, 0, 40, 80, 160])
    random.mock.mockImplementation(() => 0.75)
    assert.deepEqual([3, 4].map(pauseMs), [50, 100])
  })

  it('blame the request for an error of its own', () => {
    const own = ['UND_ERR_INVALID_ARG', 'UND_ERR_NOT_SUPPORTED', 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH'].map(withCode)
    for (const error of [new FleetError('FLEET_ERR_REQUEST_INVALID'), ...own]) assert.equal(isOurFault(error), true)
    for (const code of [
      'ECONNRESET',
      'UND_ERR_SOCKET',
      'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
      'UND_ERR_HEADERS_TIMEOUT',
    ])
      assert.equal(isOurFault(withCode(code)), false, code)
    assert.equal(isOurFault(new Error('x')), false)
  })

  it('tell a broken connection from a slow or invalid response', () => {
    for (const code of ['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE', 'ECONNABORTED'])
      assert.ok(isBreak(withCode(code)), code)
    for (const code of [
      'UND_ERR_HEADERS_TIMEOUT',
      'UND_ERR_BODY_TIMEOUT',
      'UND_ERR_CONNECT_TIMEOUT',
      'ECONNREFUSED',
      'HPE',
    ])
      assert.equal(isBreak(withCode(code)), false, code)
    assert.equal(isBreak(new Error('x')), false)
  })

  it('add X-Fleet-Retry to headers in any form and keep repeated ones', () => {
    const added = (headers: unknown): unknown => withRetryHeader(request({ headers })).headers
    assert.deepEqual(added(undefined), ['x-fleet-retry', '1'])
    assert.deepEqual(added(['a', 'b']), ['a', 'b', 'x-fleet-retry', '1'])
    assert.deepEqual(added({ a: ['b', 'c'], d: undefined, e: 1 }), ['a', 'b', 'a', 'c', 'e', '1', 'x-fleet-retry', '1'])
    assert.deepEqual(added(new Map([['a', 'b']])), ['a', 'b', 'x-fleet-retry', '1'])
    assert.equal(withRetryHeader(request({ headers: {} })).method, 'GET')
  })
})
