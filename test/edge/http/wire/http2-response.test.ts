import assert from 'node:assert/strict'
import type { ClientHttp2Session } from 'node:http2'
import { describe, it } from 'node:test'
import type { WireOptions } from '../../../../src/edge/http/wire/connection.ts'
import { Http2Exchange, RefusedStreamError } from '../../../../src/edge/http/wire/http2-exchange.ts'
import type { WireRequest } from '../../../../src/edge/http/wire/request-writer.ts'
import { clock } from '../../../helpers/clock.ts'
import { FakeStream, start } from './fake-exchange.ts'

const headers = (status: number, fields: object = {}): object => ({ ':status': status, ...fields })

describe('a response over HTTP/2', () => {
  it('has status, fields without pseudo-headers, body and trailers', (t) => {
    const { stream, seen, time } = start(t)
    stream.emit('headers', headers(103, { link: 'x' }))
    stream.emit('response', headers(200, { a: '1', b: ['2', '3'], c: undefined }))
    stream.emit('data', Buffer.from('x'))
    stream.emit('trailers', { ':x': '1', sum: '2' })
    stream.readableEnded = true
    stream.emit('end')
    assert.deepEqual(seen, [
      'start',
      [103, { link: 'x' }],
      [200, { a: '1', b: ['2', '3'] }],
      'data x',
      'done',
      ['end', { sum: '2' }],
    ])
    assert.deepEqual([stream.calls, time.timers()], [[], 0])
    // What comes after its end is nobody's.
    for (const event of ['end', 'close']) stream.emit(event)
    stream.emit('response', headers(200))
    stream.emit('data', Buffer.from('y'))
    stream.emit('error', new Error('late'))
    time.tick(10_000)
    assert.equal(seen.length, 6)
  })

  it('with a head for the handler says whether the server drains', (t) => {
    clock(t)
    const heads: unknown[] = []
    for (const fields of [{ 'x-fleet-draining': '1' }, {}]) {
      const stream = new FakeStream()
      const handler = {
        onResponseHead: (_: unknown, { status, draining }: object & Record<string, unknown>) =>
          heads.push(status, draining),
      }
      const request = { method: 'GET', path: '/', headers: '', body: null, rejectable: false }
      const exchange = new Http2Exchange(request, handler as never, { responseTimeoutMs: 1 } as WireOptions, () => {})
      exchange.start({ request: () => stream } as unknown as ClientHttp2Session)
      stream.emit('response', headers(200, fields))
    }
    assert.deepEqual(heads, [200, true, 200, false])
  })

  it('is incomplete if its body is shorter or longer than announced, unless it has none', (t) => {
    const outcome = (method: string, status: number, length: string, ...chunks: string[]): unknown => {
      const { stream, seen } = start(t, { method })
      stream.emit('response', headers(status, { 'content-length': length }))
      for (const chunk of chunks) stream.emit('data', Buffer.from(chunk))
      stream.emit('end')
      t.mock.restoreAll()
      return seen.at(-1)
    }
    const complete = ['end', {}]
    assert.deepEqual(outcome('GET', 200, '3', 'ab', 'c'), complete)
    assert.deepEqual(outcome('GET', 200, '0'), complete)
    for (const chunks of [['ab'], [], ['ab', 'cd']]) assert.equal(outcome('GET', 200, '3', ...chunks), 'SocketError')
    assert.deepEqual(outcome('HEAD', 200, '3'), complete)
    for (const status of [204, 304]) assert.deepEqual(outcome('GET', status, '3'), complete)
    for (const status of [203, 205, 303, 305]) assert.equal(outcome('GET', status, '3'), 'SocketError')
  })

  it('is incomplete without a final head', (t) => {
    const { stream, seen } = start(t)
    stream.emit('headers', headers(199, { 'content-length': '0' }))
    stream.emit('end')
    assert.deepEqual(seen.slice(2), ['done', 'SocketError'])
  })

  it('fails with the error of its stream, or when that closes', (t) => {
    const first = start(t)
    first.stream.emit('error', new RangeError('x'))
    assert.deepEqual(first.seen, ['start', 'done', 'RangeError'])
    t.mock.restoreAll()
    const second = start(t)
    second.stream.emit('close')
    assert.deepEqual(second.seen, ['start', 'done', 'SocketError'])
  })

  it('that the server refused may be repeated, unless its body was a stream', (t) => {
    const refused = (body: WireRequest['body'], rstCode: number): unknown => {
      const { stream, seen } = start(t, { method: 'POST', body })
      stream.rstCode = rstCode
      stream.emit('error', new RangeError('x'))
      t.mock.restoreAll()
      return seen.at(-1)
    }
    async function* none(): AsyncGenerator<Buffer> {}
    for (const body of [null, Buffer.from('a')]) {
      assert.equal(refused(body, 7), 'Error')
      assert.equal(refused(body, 8), 'RangeError')
    }
    assert.equal(refused(none(), 7), 'RangeError')
    assert.equal(new RefusedStreamError('x').code, 'FLEET_STREAM_REFUSED')
  })

  it('cancels its stream unless that is complete in both directions', (t) => {
    for (const [readableEnded, writableLength, calls] of [
      [true, 0, []],
      [true, 1, ['close 8']],
      [false, 0, ['close 8']],
    ] as const) {
      const { stream, exchange, seen } = start(t)
      Object.assign(stream, { readableEnded, writableLength })
      exchange.abort(new RangeError('gone'))
      assert.deepEqual([stream.calls, seen], [calls, ['start', 'done', 'RangeError']])
      assert.deepEqual([exchange.aborted, exchange.reason?.message], [true, 'gone'])
      // Errors after that have a listener.
      stream.emit('error', new Error('late'))
      t.mock.restoreAll()
    }
  })
})

describe('the time limits of a response over HTTP/2', () => {
  it('are for its head: that of the request, else that of the pool', (t) => {
    for (const [responseTimeoutMs, limit] of [
      [undefined, 1000],
      [300, 300],
    ] as const) {
      const { time, stream, seen } = start(t, { responseTimeoutMs })
      time.tick(limit - 1)
      stream.emit('headers', headers(100))
      assert.equal(seen.length, 2)
      time.tick(1)
      assert.deepEqual([seen.at(-1), stream.calls], ['HeadersTimeoutError', ['close 8']])
      t.mock.restoreAll()
    }
  })

  it('are for the body, from one chunk to the next', (t) => {
    const { time, stream, seen } = start(t)
    time.tick(999)
    stream.emit('response', headers(200))
    for (let i = 0; i < 3; i++) {
      time.tick(499)
      stream.emit('data', Buffer.from('x'))
    }
    time.tick(499)
    assert.equal(seen.at(-1), 'data x')
    time.tick(1)
    assert.equal(seen.at(-1), 'BodyTimeoutError')
  })

  it('do not exist for the body if it is 0', (t) => {
    const { time, stream, seen } = start(t, {}, { bodyTimeoutMs: 0 })
    stream.emit('response', headers(200))
    time.tick(100_000)
    assert.equal(seen.length, 2)
  })

  it('stop while the client does not read', (t) => {
    const { time, stream, exchange, seen } = start(t)
    stream.emit('response', headers(200))
    exchange.resume()
    exchange.pause()
    assert.equal(exchange.paused, true)
    // One chunk may still come.
    stream.emit('data', Buffer.from('x'))
    time.tick(10_000)
    assert.deepEqual([seen.at(-1), time.timers()], ['data x', 0])
    exchange.resume()
    exchange.resume()
    assert.deepEqual([exchange.paused, stream.calls], [false, ['pause', 'resume']])
    time.tick(499)
    assert.equal(seen.at(-1), 'data x')
    time.tick(1)
    assert.equal(seen.at(-1), 'BodyTimeoutError')
  })
})
