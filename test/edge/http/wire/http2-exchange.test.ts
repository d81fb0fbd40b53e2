import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { ClientHttp2Session } from 'node:http2'
import { describe, it, type TestContext } from 'node:test'
import type { WireOptions } from '../../../../src/edge/http/wire/connection.ts'
import { Http2Exchange, RefusedStreamError } from '../../../../src/edge/http/wire/http2-exchange.ts'
import type { WireRequest } from '../../../../src/edge/http/wire/request-writer.ts'
import { type Clock, clock } from '../../../helpers/clock.ts'

class FakeStream extends EventEmitter {
  destroyed = false
  writableEnded = false
  writableLength = 0
  readableEnded = false
  rstCode: number | undefined
  accepts = true
  readonly calls: string[] = []
  write(chunk: Buffer): boolean {
    this.calls.push(`write ${chunk}`)
    return this.accepts
  }
  end(body?: Buffer): void {
    this.calls.push(body ? `end ${body}` : 'end')
    this.writableEnded = true
  }
  pause(): void {
    this.calls.push('pause')
  }
  resume(): void {
    this.calls.push('resume')
  }
  close(code: number): void {
    this.calls.push(`close ${code}`)
  }
}

interface Started {
  readonly time: Clock
  readonly stream: FakeStream
  readonly exchange: Http2Exchange
  /** What the handler and the pool were told. */
  readonly seen: unknown[]
  readonly fields: Record<string, unknown>
  readonly endStream: boolean
}

function start(t: TestContext, given: Partial<WireRequest> = {}, bounds: Partial<WireOptions> = {}): Started {
  const time = clock(t)
  const request = { method: 'GET', path: '/a', headers: 'host: x\r\n', body: null, rejectable: false, ...given }
  const stream = new FakeStream()
  const seen: unknown[] = []
  const sent = { fields: {}, endStream: false }
  const handler = {
    onRequestStart: () => seen.push('start'),
    onResponseStart: (_: unknown, status: number, headers: object) => seen.push([status, { ...headers }]),
    onResponseData: (_: unknown, chunk: Buffer) => seen.push(`data ${chunk}`),
    onResponseEnd: (_: unknown, trailers: object) => seen.push(['end', { ...trailers }]),
    onResponseError: (controller: unknown, { name }: Error) => seen.push(controller === null ? [name] : name),
  }
  const limits = { responseTimeoutMs: 1000, bodyTimeoutMs: 500, ...bounds } as WireOptions
  const exchange = new Http2Exchange(request, handler, limits, () => seen.push('done'))
  const session = {
    request(fields: object, { endStream }: { endStream: boolean }) {
      Object.assign(sent, { fields, endStream })
      return stream
    },
  }
  exchange.start(session as unknown as ClientHttp2Session)
  return { time, stream, exchange, seen, ...sent }
}

const turn = (): Promise<void> => new Promise(setImmediate)
const headers = (status: number, fields: object = {}): object => ({ ':status': status, ...fields })

describe('a request over HTTP/2', () => {
  it('has its authority from Host, and fields of one name as a list, or as one cookie', (t) => {
    const lines = [
      'host: x:1',
      'a: 1',
      'cookie: b=1',
      'a: 2',
      'cookie: c=2',
      'a: 3',
      'd: e: f',
      ': none',
      'nothing',
      'f: ',
    ]
    const { fields, endStream, seen } = start(t, { headers: `${lines.join('\r\n')}\r\n`, path: '/a?b' })
    assert.deepEqual(
      { ...fields },
      {
        ':method': 'GET',
        ':path': '/a?b',
        ':authority': 'x:1',
        a: ['1', '2', '3'],
        cookie: 'b=1; c=2',
        d: 'e: f',
        f: '',
        te: 'trailers',
      },
    )
    assert.equal(Object.getPrototypeOf(fields), null)
    assert.deepEqual([endStream, seen], [true, ['start']])
  })

  it('has the length of its body unless it names one, and may ask to be rejected', (t) => {
    const body = Buffer.from('four')
    const sent = (given: Partial<WireRequest>): unknown[] => {
      const { fields, endStream, stream } = start(t, given)
      t.mock.restoreAll()
      return [fields['content-length'], fields['x-fleet-retry'], endStream, stream.calls]
    }
    assert.deepEqual(sent({ body }), ['4', undefined, false, ['end four']])
    assert.deepEqual(sent({ body, headers: 'content-length: 9\r\n' }), ['9', undefined, false, ['end four']])
    assert.deepEqual(sent({ body: Buffer.alloc(0), rejectable: true }), [undefined, '1', true, []])
    assert.deepEqual(sent({ body: null, rejectable: true }), [undefined, '1', true, []])
  })

  it('is not sent if its handler aborts it', (t) => {
    clock(t)
    let sent = false
    const seen: unknown[] = []
    const exchange: Http2Exchange = new Http2Exchange(
      { method: 'GET', path: '/', headers: '', body: null, rejectable: false },
      {
        onRequestStart: () => exchange.abort(new Error('gone')),
        onResponseError: (controller, { message }) => seen.push(controller, message),
      },
      { responseTimeoutMs: 1000, bodyTimeoutMs: 500 } as WireOptions,
      () => seen.push('done'),
    )
    exchange.start({
      request() {
        sent = true
      },
    } as unknown as ClientHttp2Session)
    assert.deepEqual([sent, seen], [false, ['done', null, 'gone']])
    assert.deepEqual([exchange.aborted, exchange.reason?.message], [true, 'gone'])
  })
})

describe('a body that is a stream over HTTP/2', () => {
  /** Yields `chunks`, each once the test asks for it. */
  function source(...chunks: string[]) {
    const gates = [...chunks, ''].map(() => Promise.withResolvers<void>())
    let at = 0
    async function* body(): AsyncGenerator<Buffer> {
      for (const [i, chunk] of chunks.entries()) {
        await gates[i]?.promise
        yield Buffer.from(chunk)
      }
      await gates[chunks.length]?.promise
    }
    return {
      body: body(),
      next: () => {
        gates[at++]?.resolve()
        return turn()
      },
    }
  }

  it('is written as it comes; its time is not that of the server', async (t) => {
    const { body, next } = source('a', 'b')
    const { time, stream, seen, endStream } = start(t, { method: 'POST', body })
    time.tick(10_000)
    await next()
    await next()
    assert.deepEqual([endStream, stream.calls, time.timers()], [false, ['write a', 'write b'], 0])
    time.tick(10_000)
    await next()
    assert.deepEqual(stream.calls, ['write a', 'write b', 'end'])
    time.tick(999)
    assert.deepEqual(seen, ['start'])
    time.tick(1)
    assert.deepEqual(seen, ['start', 'done', 'HeadersTimeoutError'])
  })

  it('waits until the server has taken a chunk, or has closed', async (t) => {
    for (const event of ['drain', 'close']) {
      const { body, next } = source('a', 'b', 'c')
      const { stream } = start(t, { method: 'POST', body })
      stream.accepts = false
      await next()
      await next()
      assert.deepEqual(stream.calls, ['write a'])
      const waiting = stream.listenerCount('drain')
      stream.accepts = true
      if (event === 'close') stream.destroyed = true
      stream.emit(event)
      await turn()
      assert.deepEqual(
        stream.calls.filter((call) => call.startsWith('write')),
        event === 'drain' ? ['write a', 'write b'] : ['write a'],
      )
      assert.deepEqual([waiting, stream.listenerCount('drain')], [1, 0])
      t.mock.restoreAll()
    }
  })

  it('ends early if the stream is destroyed or has ended', async (t) => {
    for (const state of ['destroyed', 'writableEnded'] as const) {
      const { body, next } = source('a', 'b')
      const { stream, time } = start(t, { method: 'POST', body })
      await next()
      stream[state] = true
      await next()
      await next()
      assert.deepEqual([stream.calls, time.timers()], [['write a'], 0])
      t.mock.restoreAll()
    }
    const { body, next } = source()
    const { stream } = start(t, { method: 'POST', body })
    stream.destroyed = true
    await next()
    assert.deepEqual(stream.calls, [])
  })

  it('that fails ends the request with its error', async (t) => {
    async function* broken(): AsyncGenerator<Buffer> {
      yield Buffer.from('a')
      throw new RangeError('broken')
    }
    const { stream, seen } = start(t, { method: 'POST', body: broken() })
    await turn()
    assert.deepEqual(seen, ['start', 'done', 'RangeError'])
    assert.deepEqual(stream.calls, ['write a', 'close 8'])
  })

  it('that ends after the response began starts no wait for its head', async (t) => {
    const { body, next } = source()
    const { stream, time } = start(t, { method: 'POST', body }, { bodyTimeoutMs: 0 })
    stream.emit('response', headers(200))
    await next()
    assert.equal(time.timers(), 0)
  })
})

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
