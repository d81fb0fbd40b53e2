import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { describe, it } from 'node:test'
import type { FastifyRequest } from 'fastify'
import type { Exchange } from '../../../src/edge/balancer/exchange.ts'
import { splitOptions } from '../../../src/edge/plugin/options.ts'
import { upstreamBody } from '../../../src/edge/plugin/request.ts'
import { ResponseBody } from '../../../src/edge/plugin/response.ts'

describe('the body for the upstream', () => {
  const bounds = { limit: 10, bufferBytes: 100 }
  const raw = (headers: object, ...chunks: string[]): IncomingMessage =>
    Object.assign(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), {
      ...{ headers, method: 'POST', httpVersion: '1.1', httpVersionMajor: 1, complete: true },
    }) as unknown as IncomingMessage
  const bodyOf = async (
    request: { raw?: IncomingMessage; body?: unknown; type?: string },
    given: { body?: unknown; contentType?: string } = {},
    limits = bounds,
  ): Promise<unknown[]> => {
    const { raw: message = raw({}), body, type } = request
    const whole = { raw: message, body, headers: { 'content-type': type } } as unknown as FastifyRequest
    const { body: found, replaced } = await upstreamBody(whole, limits, given)
    if (found === null || Buffer.isBuffer(found))
      return [found === null ? null : `${found}`, replaced?.type, !!replaced]
    const chunks: string[] = []
    for await (const chunk of found) chunks.push(`${chunk}`)
    return [chunks, replaced?.type, !!replaced]
  }
  const tooLarge = { code: 'FLEET_ERR_BODY_TOO_LARGE' }

  it('is none, or that of the client: read whole up to bufferBytes, else streamed', async () => {
    assert.deepEqual(await bodyOf({}), [null, undefined, false])
    const message = (): IncomingMessage => raw({ 'content-length': '4' }, 'ab', 'cd')
    assert.deepEqual(await bodyOf({ raw: message() }), ['abcd', undefined, false])
    assert.deepEqual(await bodyOf({ raw: message() }, {}, { limit: 4, bufferBytes: 4 }), ['abcd', undefined, false])
    assert.deepEqual(await bodyOf({ raw: message() }, {}, { limit: 0, bufferBytes: 3 }), [
      ['ab', 'cd'],
      undefined,
      false,
    ])
    const own = message()
    assert.deepEqual(await bodyOf({ raw: own, body: own }), ['abcd', undefined, false])
  })

  it('of the client has a limit, with and without a length, and must be complete', async () => {
    const limits = { limit: 3, bufferBytes: 100 }
    await assert.rejects(bodyOf({ raw: raw({ 'content-length': '4' }, 'abcd') }, {}, limits), tooLarge)
    const chunked = (): IncomingMessage => raw({ 'transfer-encoding': 'chunked' }, 'ab', 'cd')
    await assert.rejects(bodyOf({ raw: chunked() }, {}, limits), tooLarge)
    assert.deepEqual(await bodyOf({ raw: chunked() }, {}, { limit: 4, bufferBytes: 0 }), [
      ['ab', 'cd'],
      undefined,
      false,
    ])
    const broken = Object.assign(raw({ 'content-length': '4' }, 'ab'), { complete: false })
    await assert.rejects(bodyOf({ raw: broken }), { code: 'FLEET_ERR_REQUEST_INVALID' })
    await assert.rejects(bodyOf({ raw: raw({ 'transfer-encoding': 'gzip' }) }), { code: 'FLEET_ERR_REQUEST_INVALID' })
  })

  it('that was parsed is sent again in its type', async () => {
    const json = 'application/problem+json; charset=utf-8'
    for (const [body, type, text, sent] of [
      [{ a: 1 }, 'application/json', '{"a":1}', 'application/json'],
      [{ a: 1 }, json, '{"a":1}', json],
      ['text', 'application/json', '"text"', 'application/json'],
      ['text', 'text/plain', 'text', 'text/plain'],
      [Buffer.from('x'), 'application/json', 'x', 'application/json'],
      [
        { a: ['1', '2'], b: 'c d' },
        'application/x-www-form-urlencoded',
        'a=1&a=2&b=c%20d',
        'application/x-www-form-urlencoded',
      ],
      [{ a: 1 }, 'text/plain', '{"a":1}', 'application/json'],
      [7, undefined, '7', 'application/json'],
    ] as const)
      assert.deepEqual(await bodyOf({ body, type }), [text, sent, true])
    assert.deepEqual(await bodyOf({ body: null, type: 'a' }), [null, undefined, true])
  })

  it('that is given replaces it, in the type given', async () => {
    const request = { body: { old: 1 }, type: 'application/json' }
    assert.deepEqual(await bodyOf(request, { body: 'text' }), ['text', 'application/json', true])
    assert.deepEqual(await bodyOf(request, { body: { a: 1 } }), ['{"a":1}', 'application/json', true])
    assert.deepEqual(await bodyOf(request, { body: { a: 1 }, contentType: 'x/y' }), ['{"a":1}', 'x/y', true])
    assert.deepEqual(await bodyOf(request, { body: null }), [null, undefined, true])
    const form = { body: undefined, type: 'application/x-www-form-urlencoded' }
    assert.deepEqual(await bodyOf(form, { body: { a: 1 } }), ['{"a":1}', 'application/json', true])
    assert.deepEqual(await bodyOf({ type: 'application/xjson' }, { body: { a: 1 } }), [
      '{"a":1}',
      'application/json',
      true,
    ])
  })

  it('that is a stream has the limit too', async () => {
    const body = (): Readable => Readable.from(['abc', Buffer.from('def')])
    assert.deepEqual(await bodyOf({ type: 'a/b' }, { body: body() }, { limit: 6, bufferBytes: 0 }), [
      ['abc', 'def'],
      'a/b',
      true,
    ])
    await assert.rejects(bodyOf({}, { body: body() }, { limit: 5, bufferBytes: 0 }), tooLarge)
    assert.deepEqual((await bodyOf({}, { body: body() }, { limit: 0, bufferBytes: 0 }))[0], ['abc', 'def'])
  })
})

describe('the body of a response', () => {
  it('pauses the upstream once 64 KiB are unread, until they are read', () => {
    const calls: string[] = []
    const exchange = {
      done: false,
      pause: () => calls.push('pause'),
      resume: () => calls.push('resume'),
      abort: () => calls.push('abort'),
    } as unknown as Exchange
    const body = new ResponseBody({} as IncomingMessage, {} as ServerResponse)
    body.onRequestStart(exchange)
    body.onResponseData(exchange, Buffer.alloc(65_535))
    assert.deepEqual(calls, [])
    body.onResponseData(exchange, Buffer.alloc(1))
    assert.deepEqual(calls, ['pause'])
    assert.equal(body.read().length, 65_536)
    assert.deepEqual(calls, ['pause', 'resume'])
  })
})

describe('the options of the proxy plugin', () => {
  it('are its own or those of the balancer, and not those of Fastify', () => {
    const given = {
      targets: ['http://a'],
      prefix: '/x',
      logLevel: 'info',
      policy: 'random',
      rewritePrefix: '/y',
    } as const
    const { own, targets, balancer } = splitOptions(given)
    assert.deepEqual([own.rewritePrefix, targets, balancer], ['/y', ['http://a'], { policy: 'random' }])
    assert.deepEqual(splitOptions({}).targets, [])
  })

  it('have these defaults', () => {
    const { own } = splitOptions({})
    assert.deepEqual(
      [own.rewritePrefix, own.rewriteLocation, own.rewriteCookies, own.proxyPayloads, own.websocket, own.preserveHost],
      ['', true, true, true, false, false],
    )
    assert.deepEqual(own.routes, ['/', '/*'])
    assert.deepEqual(own.httpMethods, ['DELETE', 'GET', 'HEAD', 'PATCH', 'POST', 'PUT', 'OPTIONS'])
    assert.deepEqual(own.block, ['/metrics', '/health/detailed', '/api/v1/load-balancer', '/fleet'])
    assert.deepEqual([own.bufferBytes, own.tunnelTimeoutMs, own.sendTimeoutMs], [65_536, 3_600_000, 60_000])
    assert.equal(own.timeoutMs, undefined)
  })

  it('are checked', () => {
    for (const wrong of [
      ...[{ timeoutMs: 0 }, { timeoutMs: 3_600_001 }, { bodyLimit: 0 }, { rewritePrefix: 'a' }, { routes: ['a'] }],
      ...[
        { onRequest: 'x' },
        { onRequest: [() => {}, 'x'] },
        { queryString: 'a' },
        { queryString: [] },
        { config: null },
      ],
    ])
      assert.throws(() => splitOptions(wrong as never), { code: 'FLEET_ERR_OPTION_INVALID' }, JSON.stringify(wrong))
    splitOptions({ timeoutMs: 1, bodyLimit: 1, onRequest: [() => {}], queryString: {}, config: {} } as never)
  })
})
