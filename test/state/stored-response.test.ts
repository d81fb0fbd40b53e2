import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, test } from 'node:test'
import {
  bodyOf,
  captureResponse,
  handlerHeaders,
  isStoredResponse,
  parseStoredResponse,
} from '../../src/state/stored-response.ts'

const replyWith = (headers: object, statusCode = 200) => ({ statusCode, getHeaders: () => headers }) as never

describe('a response that is stored', () => {
  const capture = (payload: unknown, maxBytes = 4) => {
    const { body, encoded } = captureResponse(replyWith({}), {}, payload, maxBytes)
    return [body, encoded]
  }

  test('has a body of at most the largest size in bytes', () => {
    assert.deepEqual(capture('abcd'), ['abcd', undefined])
    assert.deepEqual(capture('abcde'), [undefined, undefined])
    assert.deepEqual(capture('éé'), ['éé', undefined])
    assert.deepEqual(capture('ééa'), [undefined, undefined])
    assert.deepEqual(capture(Buffer.from([0xff, 0, 1, 2])), ['/wABAg==', true])
    assert.deepEqual(capture(Buffer.alloc(5)), [undefined, undefined])
    for (const none of [undefined, null, '']) assert.deepEqual(capture(none), ['', undefined])
    assert.deepEqual(capture(Readable.from('a')), [undefined, undefined], 'a stream can be read once')
  })

  test('is sent with the same bytes', () => {
    for (const payload of ['é', Buffer.from([0xff, 0])])
      assert.deepEqual(bodyOf(captureResponse(replyWith({}), {}, payload, 9)), Buffer.from(payload as string))
    assert.equal(bodyOf(captureResponse(replyWith({}), {}, null, 9)), undefined)
  })

  test('has the headers that the handler set, and none of one connection, client or sending', () => {
    const transient = [
      ...['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'content-length', 'trailer', 'upgrade'],
      ...['date', 'set-cookie', 'retry-after', 'server-timing', 'x-response-time', 'x-request-id', 'traceparent'],
      ...['ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset', 'x-fleet-draining'],
    ]
    const headers = { ...Object.fromEntries(transient.map((name) => [name, '1'])), etag: '"1"', vary: 'accept', x: 'y' }
    const reply = replyWith({ ...headers, none: undefined }, 201)
    assert.deepEqual(handlerHeaders(reply, { vary: 'accept', x: 'before' }), { etag: '"1"', x: 'y' })
    const { status, headers: stored } = captureResponse(reply, { vary: 'accept' }, '', 0)
    assert.deepEqual([status, stored], [201, { etag: '"1"', x: 'y' }])
  })
})

describe('a stored response', () => {
  const response = { status: 200, headers: {}, body: 'x', encoded: false }

  test('is read if it has the form of one, and can be sent', () => {
    assert.deepEqual(parseStoredResponse(JSON.stringify(response)), response)
    assert.deepEqual(parseStoredResponse('{"status":204,"headers":{}}'), { status: 204, headers: {} })
    for (const json of ['', '{', 'null', '[]', '"x"', '{}']) assert.equal(parseStoredResponse(json), undefined, json)
    for (const [given, expected] of [
      [{ status: 599 }, true],
      [{ status: 600 }, false],
      [{ status: 199 }, false],
      [{ status: 200.5 }, false],
      [{ status: '200' }, false],
      [{ headers: null }, false],
      [{ headers: 'x' }, false],
      [{ headers: { 'x-a': 'b', list: ['\t\x80ÿ', '~'], count: 1 } }, true],
      [{ headers: { 'x a': 'b' } }, false],
      [{ headers: { '': 'b' } }, false],
      [{ headers: { x: 'a\r\nset-cookie: b' } }, false],
      [{ headers: { x: 'Ā' } }, false],
      [{ headers: { x: ['a', null] } }, false],
      [{ headers: { x: true } }, false],
      [{ body: 1 }, false],
      [{ body: null }, false],
      [{ encoded: 'x' }, false],
      [{ encoded: true }, true],
    ] as const)
      assert.equal(isStoredResponse({ ...response, ...given }), expected, JSON.stringify(given))
  })
})
