import assert from 'node:assert/strict'
import type { ClientHttp2Session } from 'node:http2'
import { describe, it } from 'node:test'
import type { WireOptions } from '../../../../src/edge/http/wire/connection.ts'
import { Http2Exchange } from '../../../../src/edge/http/wire/http2-exchange.ts'
import type { WireRequest } from '../../../../src/edge/http/wire/request-writer.ts'
import { clock } from '../../../helpers/clock.ts'
import { start } from './fake-exchange.ts'

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
