import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { start } from './fake-http2.ts'

const reset = ['reset', 'destroy']

describe('an HTTP/2 session without a request', () => {
  it('is cut after headersTimeoutMs, without GOAWAY', (t) => {
    const { time, connect } = start(t, { headersTimeoutMs: 400, idleTimeoutMs: 100_000 })
    const { session, raw } = connect()
    time.tick(399)
    assert.deepEqual([session.calls, raw.calls], [[], []])
    time.tick(1)
    assert.deepEqual([session.calls, raw.calls], [['destroy'], reset])
  })

  it('stays if there is no limit', (t) => {
    const { time, connect } = start(t, { idleTimeoutMs: 400 })
    const { session, raw } = connect()
    time.tick(10_000)
    assert.deepEqual([session.calls, raw.calls], [[], []])
  })
})

describe('an idle HTTP/2 session', () => {
  it('gets GOAWAY idleTimeoutMs after its last request, and is cut at the next check', (t) => {
    const { time, connect } = start(t, { headersTimeoutMs: 100_000, idleTimeoutMs: 400 })
    const { session, raw, request } = connect()
    time.tick(1000)
    const stream = request()
    time.tick(1000)
    assert.deepEqual(session.calls, [])
    stream.emit('close')
    time.tick(399)
    assert.deepEqual(session.calls, [])
    time.tick(1)
    assert.deepEqual([session.calls, raw.calls], [['close'], []])
    time.tick(100)
    // Its own GOAWAY has shut the connection down, which cannot be reset any more.
    assert.deepEqual(
      [session.calls, raw.calls],
      [
        ['close', 'destroy'],
        ['destroy', 'destroy'],
      ],
    )
  })

  it('is one without an open stream: one that has another stays', (t) => {
    const { time, connect } = start(t, { idleTimeoutMs: 400 })
    const { session, request } = connect()
    const [one] = [request(), request()]
    one?.emit('close')
    time.tick(2000)
    assert.deepEqual(session.calls, [])
  })

  it('that another closed is cut at the second check', (t) => {
    const { time, connect } = start(t, { idleTimeoutMs: 400 })
    const { session, raw, request } = connect()
    request().emit('close')
    session.closed = true
    time.tick(100)
    assert.deepEqual(raw.calls, [])
    time.tick(100)
    assert.deepEqual([session.calls, raw.calls], [['destroy'], ['destroy', 'destroy']])
  })
})

describe('an upload over HTTP/2', () => {
  it('is cancelled after requestTimeoutMs, and the others stay', (t) => {
    const { time, connect } = start(t, { requestTimeoutMs: 400 })
    const { session, request } = connect()
    const late = request({ endAfterHeaders: false })
    const complete = request({ endAfterHeaders: false })
    const withoutBody = request()
    const tunnel = request({ endAfterHeaders: false }, 'CONNECT')
    complete.readableEnded = true
    time.tick(399)
    assert.deepEqual(late.calls, [])
    time.tick(1)
    assert.deepEqual(late.calls, ['close 8', 'destroy'])
    assert.deepEqual([complete.calls, withoutBody.calls, tunnel.calls, session.calls], [[], [], [], []])
    // It is done, whatever the stream says later.
    complete.readableEnded = false
    late.emit('close')
    time.tick(400)
    assert.deepEqual([complete.calls, late.calls.length], [[], 2])
  })

  it('takes as long as it likes without a limit', (t) => {
    const { time, connect } = start(t, { idleTimeoutMs: 400 })
    const upload = connect().request({ endAfterHeaders: false })
    time.tick(100_000)
    assert.deepEqual(upload.calls, [])
  })
})

describe('a waiting client of HTTP/2', () => {
  it('gets a PING after sendTimeoutMs without data, and is cut if nothing comes in the same time', (t) => {
    const { time, connect } = start(t, { idleTimeoutMs: 400, sendTimeoutMs: 1000 })
    const { session, raw, request } = connect()
    request()
    time.tick(999)
    assert.deepEqual(session.calls, [])
    time.tick(1)
    assert.deepEqual(session.calls, ['ping'])
    time.tick(999)
    assert.deepEqual([session.calls, raw.calls], [['ping'], []])
    time.tick(1)
    assert.deepEqual([session.calls, raw.calls], [['ping', 'destroy'], reset])
  })

  it('stays while it responds, and gets one PING per quiet time', (t) => {
    const { time, connect } = start(t, { idleTimeoutMs: 400, sendTimeoutMs: 1000 })
    const { session, raw, request } = connect()
    request()
    for (let i = 0; i < 3; i++) {
      time.tick(1500)
      raw.bytesRead += 17
      time.tick(100)
    }
    assert.deepEqual([session.calls, raw.calls], [['ping', 'ping', 'ping'], []])
  })

  it('gets the PING after 30 s at the latest, also without a limit', (t) => {
    for (const sendTimeoutMs of [0, 600_000]) {
      const { time, connect } = start(t, { idleTimeoutMs: 400, sendTimeoutMs })
      const { session, request } = connect()
      request()
      time.tick(29_999)
      assert.deepEqual(session.calls, [])
      time.tick(1)
      assert.deepEqual(session.calls, ['ping'])
      t.mock.restoreAll()
    }
  })

  it('gets no PING after its session ended', (t) => {
    const { time, connect } = start(t, { idleTimeoutMs: 400, sendTimeoutMs: 1000 })
    const { session, request } = connect()
    request()
    session.destroyed = true
    time.tick(5000)
    assert.deepEqual(session.calls, [])
  })
})

describe('a stalled response over HTTP/2', () => {
  it('is cut after sendTimeoutMs', (t) => {
    const { time, connect } = start(t, { sendTimeoutMs: 400 })
    const stalled = connect().request({ writableLength: 10 })
    time.tick(500)
    assert.deepEqual(stalled.calls, ['close 8', 'destroy'])
  })
})
