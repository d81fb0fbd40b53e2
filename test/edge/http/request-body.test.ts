import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { describe, it, type TestContext } from 'node:test'
import { endResponse, limitBodyTime, streamBody } from '../../../src/edge/http/request-body.ts'
import { FakeResponse } from './fake-response.ts'

/** A late upload over HTTP/2, and what happens to it. */
function late(t: TestContext, timeoutMs: number) {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const response = new FakeResponse()
  const stream = Object.assign(new EventEmitter(), { close: (code: number) => response.calls.push(['close', code]) })
  const request = Object.assign(new EventEmitter(), { stream })
  const abort = (): void => void response.calls.push('abort')
  limitBodyTime(request as never, response as never, timeoutMs, abort)
  return { request, stream, response, tick: (ms: number) => t.mock.timers.tick(ms) }
}

describe('the time for a body over HTTP/2', () => {
  it('ends with 408 without a body, the end of the upload and of the request upstream', (t) => {
    const { response, stream, tick } = late(t, 300)
    tick(299)
    assert.deepEqual(response.calls, [])
    tick(1)
    assert.deepEqual(response.calls, [['head', 408, { 'cache-control': 'no-store' }], 'end', 'abort'])
    stream.emit('finish')
    assert.deepEqual(response.calls.at(-1), ['close', 0])
  })

  it('cuts a response that has started', (t) => {
    const { response, tick } = late(t, 300)
    response.headersSent = true
    tick(300)
    assert.deepEqual(response.calls, ['destroy', 'abort'])
  })

  for (const event of ['end', 'close'])
    it(`no longer counts after the ${event} of the request`, (t) => {
      const { request, response, tick } = late(t, 300)
      request.emit(event)
      tick(300)
      assert.deepEqual(response.calls, [])
    })

  it('is not limited by 0', (t) => {
    const { response, tick } = late(t, 0)
    tick(3_600_000)
    assert.deepEqual(response.calls, [])
  })
})

describe('a body that is streamed', () => {
  const of = (chunks: readonly string[]): IncomingMessage =>
    Readable.from(chunks.map((chunk) => Buffer.from(chunk))) as unknown as IncomingMessage

  it('is read once a target is ready, up to the limit', async () => {
    for (const limit of [0, 5, 6]) {
      let starts = 0
      const body = streamBody(of(['abc', 'de']), limit, () => starts++)
      assert.equal(starts, 0)
      assert.equal((await Readable.from(body).toArray()).join(''), 'abcde')
      assert.equal(starts, 1)
    }
    const read: string[] = []
    const over = async (): Promise<void> => {
      for await (const chunk of streamBody(of(['abc', 'de']), 4, () => undefined)) read.push(String(chunk))
    }
    await assert.rejects(over, { code: 'FLEET_ERR_BODY_TOO_LARGE', message: /4 bytes/ })
    assert.deepEqual(read, ['abc'])
  })

  it('that breaks is the client’s fault, and one that is not wanted stays intact', async () => {
    const cause = new Error('aborted')
    const broken = Readable.from(
      (async function* () {
        yield Buffer.from('a')
        throw cause
      })(),
    ) as unknown as IncomingMessage
    await assert.rejects(Readable.from(streamBody(broken, 0, () => undefined)).toArray(), {
      code: 'FLEET_ERR_REQUEST_INVALID',
      cause,
    })
    const unwanted = of(['a', 'b'])
    for await (const _ of streamBody(unwanted, 0, () => undefined)) break
    assert.equal(unwanted.destroyed, false)
  })
})

describe('the end of a response to an incomplete request', () => {
  function incomplete(t: TestContext, more: object = {}) {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const response = new FakeResponse()
    let resumed = 0
    const request = Object.assign(new EventEmitter(), {
      ...{ complete: false, destroyed: false, headers: {}, resume: () => resumed++, ...more },
    })
    endResponse(request as unknown as IncomingMessage, response as unknown as ServerResponse, 'last')
    return { request, response, resumed: () => resumed, tick: (ms: number) => t.mock.timers.tick(ms) }
  }
  const written = ['write', 'last']

  it('waits until the client has sent the rest, which is discarded, for two seconds at most', (t) => {
    const { response, resumed, tick } = incomplete(t)
    tick(1_999)
    assert.deepEqual([response.calls, resumed()], [[written], 1])
    tick(1)
    assert.deepEqual(response.calls, [written, 'end'])
  })

  for (const event of ['end', 'close'])
    it(`comes with the ${event} of the request`, (t) => {
      const { request, response } = incomplete(t)
      request.emit(event)
      assert.deepEqual(response.calls, [written, 'end'])
    })

  it('comes at once if nothing will be sent any more', (t) => {
    for (const state of [{ complete: true }, { destroyed: true }, { headers: { expect: '100-continue' } }]) {
      const { response } = incomplete(t, state)
      assert.deepEqual(response.calls, [['end', 'last', 'string']], JSON.stringify(state))
      t.mock.timers.reset()
    }
    const { response } = incomplete(t, { headers: { expect: '100-continue' }, readableDidRead: true })
    assert.deepEqual(response.calls, [written], 'it has begun to send')
  })
})
