import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { describe, it } from 'node:test'
import { FleetError } from '../../../src/base/errors.ts'
import { bodyLength } from '../../../src/edge/http/admission.ts'
import { fromClientError, isRespondable } from '../../../src/edge/http/client-error.ts'
import { asFleetError, errorPage, wantsHtml } from '../../../src/edge/http/error-page.ts'
import { hintedLinks, sendInformational } from '../../../src/edge/http/informational.ts'
import { noLabels, RequestTimes, sample } from '../../../src/edge/http/request-times.ts'

describe('the times of requests', () => {
  it('are counted by class of status', () => {
    const times = new RequestTimes()
    for (const status of [101, 199, 200, 299, 302, 404, 499, 500, 599, 600, 999, 0, 0]) times.observe(status, 1)
    assert.deepEqual(times.responses({ pool: 'a' }), [
      ['{code="1xx",pool="a"}', 2],
      ['{code="2xx",pool="a"}', 2],
      ['{code="3xx",pool="a"}', 1],
      ['{code="4xx",pool="a"}', 2],
      ['{code="5xx",pool="a"}', 4],
      ['{code="aborted",pool="a"}', 2],
    ])
  })

  it('are a histogram in seconds whose bounds belong to their buckets', () => {
    const limits = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000]
    const times = new RequestTimes()
    for (const ms of limits) times.observe(200, ms)
    times.observe(200, 10_000.5)
    times.observe(0, 0.5)
    const sum = (limits.reduce((a, b) => a + b, 0) + 10_001) / 1000
    assert.deepEqual(times.durations({ pool: 'a' }), [
      ...limits.map((ms, i) => [`_bucket{le="${ms / 1000}",pool="a"}`, i + 2]),
      ['_bucket{le="+Inf",pool="a"}', 15],
      ['_sum{pool="a"}', sum],
      ['_count{pool="a"}', 15],
    ])
    assert.deepEqual(new RequestTimes().durations(noLabels).at(-1), ['_count', 0])
  })

  it('have labels whose values are escaped', () => {
    assert.deepEqual(sample({ a: 'x"y\\z\n', b: 'c' }, 1, '_x'), ['_x{a="x\\"y\\\\z\\\n",b="c"}', 1])
    assert.deepEqual(sample(noLabels, 2), ['', 2])
  })
})

describe('the bytes that no parser accepts', () => {
  it('get a response if they are of HTTP, and not of TLS', () => {
    const isOf = (code?: string): boolean => isRespondable(Object.assign(new Error('x'), { code }))
    assert.deepEqual(
      ['HPE_INVALID_METHOD', 'ERR_HTTP_REQUEST_TIMEOUT', 'ERR_SSL_X', 'XHPE_', 'ECONNRESET', undefined].map(isOf),
      [...[true, true, false, false, false, false]],
    )
  })

  it('get the status of their error', () => {
    const code = (name?: string, packet?: string): string =>
      fromClientError(Object.assign(new Error('x'), { code: name, rawPacket: packet && Buffer.from(packet) }) as Error)
        .code
    assert.equal(code('HPE_HEADER_OVERFLOW'), 'FLEET_ERR_HEADERS_TOO_LARGE')
    assert.equal(code('HPE_CHUNK_EXTENSIONS_OVERFLOW'), 'FLEET_ERR_BODY_TOO_LARGE')
    assert.equal(code('HPE_PAUSED_H2_UPGRADE'), 'FLEET_ERR_VERSION_UNSUPPORTED')
    assert.equal(code('ERR_HTTP_REQUEST_TIMEOUT'), 'FLEET_ERR_REQUEST_TIMEOUT')
    assert.equal(code('HPE_INVALID_VERSION', 'GET / HTTP/3.0\r\n'), 'FLEET_ERR_VERSION_UNSUPPORTED')
    assert.equal(code('HPE_INVALID_VERSION', 'GET / HTTP/1.1\n'), 'FLEET_ERR_REQUEST_INVALID')
    assert.equal(code('HPE_INVALID_VERSION', 'GET / HTTP/1.0 x'), 'FLEET_ERR_REQUEST_INVALID')
    assert.equal(code('HPE_INVALID_VERSION', 'GET / HTTP/1.1\r\n'), 'FLEET_ERR_VERSION_UNSUPPORTED')
    assert.equal(code('HPE_INVALID_VERSION'), 'FLEET_ERR_VERSION_UNSUPPORTED')
    for (const other of ['HPE_INVALID_METHOD', 'toString', undefined])
      assert.equal(code(other), 'FLEET_ERR_REQUEST_INVALID')
  })
})

describe('an error page', () => {
  it('is JSON in the form of Fastify, with what the client may know', () => {
    const { status, headers, body } = errorPage(
      new FleetError('FLEET_ERR_NO_TARGET', 'a<b', { retryAfter: 3 }),
      undefined,
    )
    assert.equal(status, 503)
    assert.deepEqual(JSON.parse(body), {
      statusCode: 503,
      code: 'FLEET_ERR_NO_TARGET',
      error: 'Service Unavailable',
      message: 'no target available: a<b',
    })
    const fields = Object.fromEntries(headers.flatMap((name, i) => (i % 2 === 0 ? [[name, headers[i + 1]]] : [])))
    assert.equal(fields['content-type'], 'application/json; charset=utf-8')
    assert.equal(fields['content-length'], String(Buffer.byteLength(body)))
    assert.equal(fields['retry-after'], '3')
  })

  it('is HTML for a browser, without markup of others', () => {
    const { headers, body } = errorPage(new FleetError('FLEET_ERR_PATH_BLOCKED', '<"&>'), 'text/html')
    assert.match(body, /<title>404 Not Found<\/title><h1>404 Not Found<\/h1><p>not found: &#60;&#34;&#38;&#62;<\/p>/)
    assert.match(body, /<code>FLEET_ERR_PATH_BLOCKED<\/code>/)
    assert.ok(headers.includes('text/html; charset=utf-8'))
  })

  it('is HTML if the client prefers it to JSON', () => {
    for (const accept of ['text/html', 'text/html, application/json;q=0.9', 'application/json;q=0.5,text/html; q=0.6'])
      assert.equal(wantsHtml(accept), true, accept)
    for (const accept of [undefined, '', '*/*', 'application/json', 'text/html, application/json', 'text/html;q=0'])
      assert.equal(wantsHtml(accept), false, accept)
    assert.equal(wantsHtml('application/json, text/html;q=0.9'), false)
    assert.equal(wantsHtml('text/plain, text/html;q=0.1'), true)
  })

  it('tells a timeout, a fault of the client and one of the upstream apart', () => {
    const of = (code?: string): string => asFleetError(Object.assign(new Error('10.0.0.1'), { code })).code
    for (const name of ['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'UND_ERR_CONNECT_TIMEOUT'])
      assert.equal(of(name), 'FLEET_ERR_UPSTREAM_TIMEOUT')
    for (const name of ['UND_ERR_SOCKET', 'ECONNREFUSED', undefined])
      assert.equal(of(name), 'FLEET_ERR_UPSTREAM_FAILED')
    const own = new FleetError('FLEET_ERR_QUEUE_FULL')
    assert.equal(asFleetError(own), own)
    const cause = new Error('10.0.0.1')
    assert.equal(asFleetError(cause).cause, cause)
    assert.doesNotMatch(asFleetError(cause).message, /10\.0\.0\.1/)
  })
})

describe('the length of a request', () => {
  const length = (headers: object, more: object = {}): number =>
    bodyLength({ headers, httpVersion: '1.1', httpVersionMajor: 1, method: 'POST', ...more } as IncomingMessage)

  it('is that of its field, or unknown in chunks', () => {
    assert.equal(length({ 'content-length': '5' }), 5)
    assert.equal(length({}), 0)
    for (const coding of ['chunked', 'Chunked'])
      assert.equal(length({ 'transfer-encoding': coding }), Number.POSITIVE_INFINITY)
    for (const coding of ['gzip', 'gzip, chunked', '']) assert.ok(Number.isNaN(length({ 'transfer-encoding': coding })))
    assert.ok(Number.isNaN(length({ 'transfer-encoding': 'chunked' }, { httpVersion: '1.0' })))
  })

  it('over HTTP/2 is unknown without its field, unless the method has no body', () => {
    const http2 = { httpVersion: '2.0', httpVersionMajor: 2 }
    assert.equal(length({}, http2), Number.POSITIVE_INFINITY)
    assert.equal(length({ 'content-length': '5' }, http2), 5)
    for (const method of ['GET', 'HEAD']) assert.equal(length({}, { ...http2, method }), 0)
  })
})

describe('an interim response', () => {
  const head = (status: number, link?: string) => ({
    status,
    message: '',
    headers: (link ? { link } : {}) as Record<string, string>,
    draining: false,
  })
  const hint = '</a>; rel=preload'

  it('has hints that are well-formed links, one by one', () => {
    assert.deepEqual(hintedLinks(undefined), [])
    assert.deepEqual(hintedLinks([`${hint}, </b>; rel="x"; as=style`, '<c>']), [hint, '</b>; rel="x"; as=style', '<c>'])
    assert.deepEqual(hintedLinks('</a,b>; x=y, </c>; t=",", </d>'), ['</a,b>; x=y', '</c>; t=","', '</d>'])
    assert.deepEqual(hintedLinks(['no link', '</a>; x="y', '</é>', '</a>;;', '<a> b', '</a>; t="\\"", <b>']), ['<b>'])
    const long = `<${'a'.repeat(8190)}>`
    assert.deepEqual([hintedLinks(long).length, hintedLinks(`${long} `).length], [1, 0])
  })

  function sent(status: number, link: string | undefined, request: object, state: object = {}): unknown[] {
    const calls: unknown[] = []
    const response = {
      socket: { writableLength: 0 },
      writeProcessing: () => calls.push(102),
      writeEarlyHints: (hints: object) => calls.push(hints),
      ...state,
    }
    sendInformational(request as IncomingMessage, response as unknown as ServerResponse, head(status, link))
    return calls
  }

  it('is forwarded to a client of HTTP/1.1 that reads, if it is 102, or 103 with hints', () => {
    const one = { httpVersion: '1.1', headers: {} }
    assert.deepEqual(sent(102, undefined, one), [102])
    assert.deepEqual(sent(103, hint, one), [{ link: [hint] }])
    for (const [status, link] of [
      [100, hint],
      [101, hint],
      [104, hint],
      [103, undefined],
      [103, 'x'],
    ] as const)
      assert.deepEqual(sent(status, link, one), [])
    assert.deepEqual(sent(103, hint, { ...one, httpVersion: '1.0' }), [])
    assert.deepEqual(sent(103, hint, one, { socket: null }), [])
    assert.deepEqual(sent(103, hint, one, { socket: { writableLength: 1 } }), [])
  })

  it('is forwarded over HTTP/2 while its stream is open and not many frames wait', () => {
    const two = { httpVersion: '2.0', httpVersionMajor: 2, stream: {}, headers: {} }
    const over = (status: number, state: object = {}): unknown[] => {
      const calls: unknown[] = []
      const session = { state: { outboundQueueSize: 64 } }
      const stream = { session, additionalHeaders: (fields: object) => calls.push(fields), ...state }
      sent(status, `${hint}, </b>`, two, { stream })
      return calls
    }
    assert.deepEqual(over(102), [{ ':status': 102 }])
    assert.deepEqual(over(103), [{ ':status': 103, link: `${hint}, </b>` }])
    assert.deepEqual(over(103, { session: undefined }).length, 1)
    for (const state of [
      { destroyed: true },
      { closed: true },
      { headersSent: true },
      { session: { state: { outboundQueueSize: 65 } } },
    ])
      assert.deepEqual(over(103, state), [])
  })
})
