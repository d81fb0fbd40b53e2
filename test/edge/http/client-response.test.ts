import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { describe, it } from 'node:test'
import { FleetError } from '../../../src/base/errors.ts'
import { endResponse, readWhole } from '../../../src/edge/http/request-body.ts'
import { breakOff, sendError } from '../../../src/edge/http/response.ts'
import { noTrailers } from '../../../src/edge/http/wire/fields.ts'
import { FakeResponse, start } from './fake-response.ts'

const turn = (): Promise<void> => new Promise(process.nextTick)
const http2 = (): object => ({ httpVersion: '2.0', httpVersionMajor: 2, stream: { endAfterHeaders: true } })

describe('a response to a client', () => {
  it('is written with its first chunk once both have arrived, and ends with it as text if it is small', async (t) => {
    for (const [size, type] of [
      [8192, 'string'],
      [8193, 'object'],
    ] as const) {
      const { client, response, controller, head } = start(t)
      head(200, { a: '1' })
      client.onResponseData(controller, Buffer.alloc(size, 'x'))
      client.onResponseEnd(controller, noTrailers)
      await turn()
      assert.deepEqual(response.calls, [
        ['head', 200, 'Text', ['a', '1']],
        ['end', 'x'.repeat(size), type],
      ])
      t.mock.restoreAll()
    }
  })

  it('is flushed after a turn without a body, and then written chunk by chunk', async (t) => {
    const { client, response, controller, head } = start(t)
    head(200)
    await turn()
    client.onResponseData(controller, Buffer.from('a'))
    client.onResponseData(controller, Buffer.from('b'))
    client.onResponseEnd(controller, noTrailers)
    assert.deepEqual(response.calls.slice(1), ['flush', ['write', 'a'], ['write', 'b'], 'end'])
  })

  it('is written at once with a second chunk', async (t) => {
    const { client, response, controller, head } = start(t)
    head(200)
    client.onResponseData(controller, Buffer.from('a'))
    assert.equal(response.calls.length, 1)
    client.onResponseData(controller, Buffer.from('b'))
    await turn()
    client.onResponseEnd(controller, noTrailers)
    assert.deepEqual(response.calls.slice(1), [['write', 'a'], ['write', 'b'], 'end'])
  })

  it('announces the end of the connection while the proxy closes, or if the request is not complete', (t) => {
    for (const [given, close] of [
      [{}, []],
      [{ closing: true }, ['connection', 'close']],
      [{ request: { complete: false } }, ['connection', 'close']],
    ] as const) {
      const { response, head } = start(t, given)
      head(200, { a: '1', connection: 'b', b: '2' })
      assert.deepEqual(response.calls, [['head', 200, 'Text', ['a', '1', ...close]]])
      t.mock.restoreAll()
    }
  })

  it('has the cookie of the policy, and no length where there is no body', (t) => {
    const cookie = start(t, { setCookie: 's=1' })
    cookie.head(200, { a: '1' })
    assert.deepEqual(cookie.response.calls, [['head', 200, 'Text', ['a', '1', 'set-cookie', 's=1']]])
    t.mock.restoreAll()
    const none = start(t)
    none.head(204, { 'content-length': '0', a: '1' })
    assert.deepEqual(none.response.calls, [['head', 204, 'Text', ['a', '1']]])
  })

  it('keeps the announcement of trailers only if it can have some', (t) => {
    const trailer = { trailer: 't' }
    for (const [request, status, headers, kept] of [
      [{}, 200, trailer, true],
      [{}, 200, { ...trailer, 'content-length': '1' }, false],
      [{}, 204, trailer, false],
      [{}, 304, trailer, false],
      [{ method: 'HEAD' }, 200, trailer, false],
      [{ httpVersion: '1.0' }, 200, trailer, false],
    ] as const) {
      const { response, head } = start(t, { request })
      head(status, headers)
      assert.equal(String(response.calls[0]).includes('trailer'), kept)
      t.mock.restoreAll()
    }
  })

  it('has its trailers in one call, without those that Connection names', (t) => {
    const { client, response, controller, head } = start(t)
    head(200, { connection: 'b' })
    client.onResponseEnd(controller, { a: ['1', '2'], b: '3', host: 'x' })
    assert.deepEqual(response.calls[1], [
      'trailers',
      [
        ['a', '1'],
        ['a', '2'],
      ],
    ])
    t.mock.restoreAll()
    const none = start(t)
    none.head(200)
    none.client.onResponseEnd(controller, { host: 'x' })
    assert.deepEqual(none.response.calls[1], 'end')
  })
})

describe('a response over HTTP/2', () => {
  it('has neither reason nor Connection, and trailers as an object', (t) => {
    const { client, response, controller, head } = start(t, { request: http2(), closing: true })
    head(200, { a: ['1', '2'], trailer: 't', 'content-length': '0' })
    client.onResponseEnd(controller, { a: ['1', '2'] })
    const [, status, fields] = response.calls[0] as [string, number, object]
    assert.deepEqual([status, { ...fields }], [200, { a: ['1', '2'], trailer: 't', 'content-length': '0' }])
    assert.deepEqual(response.calls[1], ['trailers', { a: ['1', '2'] }])
  })

  it('of 205 has no body', async (t) => {
    const { client, response, controller, head } = start(t, { request: http2() })
    head(205, { 'content-length': '1', a: '1' })
    client.onResponseData(controller, Buffer.from('x'))
    client.onResponseEnd(controller, noTrailers)
    const [, , fields] = response.calls[0] as [string, number, object]
    assert.deepEqual([{ ...fields }, response.calls.slice(1)], [{ a: '1' }, ['end']])
  })

  it('cannot have a status above 599, which over HTTP/1.1 is forwarded', (t) => {
    const two = start(t, { request: http2() })
    two.head(600)
    assert.deepEqual([two.controls, two.response.calls], [['abort FLEET_ERR_UPSTREAM_FAILED'], []])
    t.mock.restoreAll()
    const one = start(t)
    one.head(600)
    assert.deepEqual(one.response.calls, [['head', 600, 'Text', []]])
  })
})

describe('a client that does not read', () => {
  it('pauses the upstream until it has read, and is cut after sendTimeoutMs', async (t) => {
    const { client, response, controller, controls, time, head } = start(t)
    head(200)
    await turn()
    response.accepts = false
    client.onResponseData(controller, Buffer.from('a'))
    client.onResponseData(controller, Buffer.from('b'))
    assert.deepEqual([controls, time.delays()], [['pause'], [600]])
    response.emit('drain')
    assert.deepEqual([controls, time.timers(), response.listenerCount('close')], [['pause', 'resume'], 0, 0])
    client.onResponseData(controller, Buffer.from('c'))
    time.tick(599)
    assert.equal(response.destroyed, false)
    time.tick(1)
    assert.equal(response.destroyed, true)
  })

  it('needs no timer when it leaves, or when the upstream fails', async (t) => {
    for (const leave of [true, false]) {
      const { client, response, controller, time, head } = start(t)
      head(200)
      await turn()
      response.accepts = false
      client.onResponseData(controller, Buffer.from('a'))
      if (leave) response.emit('close')
      else client.onResponseError(controller, new Error('lost'))
      assert.equal(time.timers(), 0)
      t.mock.restoreAll()
    }
  })
})

describe('a response that fails', () => {
  it('is an error page before its head, and broken off after it', (t) => {
    const before = start(t)
    before.client.onResponseError(null, new Error('lost'))
    assert.deepEqual(before.response.calls[0], ['remove', 'x-set'])
    assert.equal((before.response.calls[1] as unknown[])[1], 502)
    assert.match(String(before.response.calls[2]), /FLEET_ERR_UPSTREAM_FAILED/)
    t.mock.restoreAll()
    const after = start(t)
    after.head(200)
    after.client.onResponseError(null, new Error('lost'))
    after.client.flush()
    assert.deepEqual(after.response.calls.slice(1), ['destroy'])
  })

  it('by an internal error aborts the upstream, and is reported once', (t) => {
    const { client, response, controls } = start(t)
    client.crashed(new Error('bug'))
    assert.deepEqual([controls, (response.calls[1] as unknown[])[1]], [['abort bug'], 502])
    const { length } = response.calls
    client.crashed(new Error('bug'))
    assert.equal(response.calls.length, length)
  })

  it('is broken off so that it looks incomplete', () => {
    const calls: unknown[] = []
    const socket = { writableEnded: false, resetAndDestroy: () => calls.push('reset') }
    const response = { destroy: () => calls.push('destroy'), socket }
    const cut = (httpVersion: string, more: object = {}): unknown[] => {
      breakOff({ httpVersion } as IncomingMessage, { ...response, ...more } as unknown as ServerResponse)
      return calls.splice(0)
    }
    assert.deepEqual(cut('1.1'), ['destroy'])
    assert.deepEqual(cut('1.0'), ['reset'])
    assert.deepEqual(cut('1.0', { socket: null }), ['destroy'])
    assert.deepEqual(cut('1.0', { socket: { ...socket, encrypted: true } }), ['destroy'])
    assert.deepEqual(cut('2.0', { stream: { close: (code: number) => calls.push(code) } }), [2])
  })

  it('has no body for HEAD, and nothing once the connection is closed', () => {
    const error = new FleetError('FLEET_ERR_NO_TARGET')
    for (const [method, body] of [
      ['HEAD', false],
      ['GET', true],
    ] as const) {
      const response = new FakeResponse()
      const request = { method, httpVersion: '1.1', headers: {}, complete: true } as unknown as IncomingMessage
      sendError(request, response as unknown as ServerResponse, error)
      assert.equal(Array.isArray(response.calls.at(-1)), body)
      response.calls.length = 0
      response.destroyed = true
      sendError(request, response as unknown as ServerResponse, error)
      assert.deepEqual(response.calls, [])
    }
  })
})

it('a short body is read whole, whatever its chunks', () => {
  for (const chunks of [[], ['a'], ['a', 'b', 'c']]) {
    const request = new EventEmitter()
    const bodies: string[] = []
    const failures: string[] = []
    readWhole(
      request as IncomingMessage,
      (body) => {
        bodies.push(String(body))
        throw new Error('bug')
      },
      ({ message }) => failures.push(message),
    )
    for (const chunk of chunks) request.emit('data', Buffer.from(chunk))
    request.emit('end')
    assert.deepEqual([bodies, failures], [[chunks.join('')], ['bug']])
  }
})

it('an upload over HTTP/2 is stopped once its response is sent', () => {
  for (const [state, atOnce, later] of [
    [{}, [], [0]],
    [{ writableFinished: true }, [0], [0]],
    [{ endAfterHeaders: true }, [], []],
    [{ readableEnded: true }, [], []],
  ] as const) {
    const codes: number[] = []
    const stream = Object.assign(new EventEmitter(), { close: (code: number) => codes.push(code), ...state })
    const response = new FakeResponse()
    endResponse({ stream } as unknown as IncomingMessage, response as unknown as ServerResponse, 'last')
    assert.deepEqual([codes, response.calls], [atOnce, [['end', 'last', 'string']]])
    stream.emit('finish')
    assert.deepEqual(codes, later)
  }
})
