import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { FakeSession, start } from './fake-http2.ts'
import { fake } from './fake-socket.ts'

/** Any limit above zero: sessions are checked each second. */
const checked = { idleTimeoutMs: 100_000 }
/** RFC 9113: ENHANCE_YOUR_CALM. */
const cut = ['goaway 11', 'destroy']

describe('a client of HTTP/2 that resets its requests', () => {
  it('is cut at twice the streams it may have at once', async (t) => {
    const { connect } = start(t, { maxConcurrentStreams: 3 })
    const { session, raw, request } = connect()
    for (let i = 0; i < 5; i++) request({ rstCode: 8 }).emit('close')
    // Complete requests do not count.
    for (let i = 0; i < 5; i++) request().emit('close')
    await turn()
    assert.deepEqual([session.calls, raw.calls], [[], []])
    const last = request({ rstCode: 8 })
    last.emit('close')
    assert.deepEqual([session.calls, raw.calls], [['destroy'], []])
    await turn()
    assert.deepEqual(
      [session.calls, raw.calls],
      [
        ['destroy', 'destroy'],
        ['destroy', 'destroy'],
      ],
    )
  })

  it('ends its session once', async (t) => {
    const { connect } = start(t, { maxConcurrentStreams: 1 })
    const { session, request } = connect()
    for (const stream of Array.from({ length: 5 }, () => request({ rstCode: 8 }))) stream.emit('close')
    await turn()
    assert.deepEqual(session.calls, ['destroy', 'destroy'])
  })

  it('may reset 33 more each second', (t) => {
    const { time, connect } = start(t, { ...checked, maxConcurrentStreams: 50 })
    const { session, request } = connect()
    const resets = (count: number): void => {
      for (let i = 0; i < count; i++) request({ rstCode: 8 }).emit('close')
    }
    resets(99)
    time.tick(1000)
    resets(33)
    assert.deepEqual(session.calls, [])
    time.tick(1000)
    resets(33)
    assert.deepEqual(session.calls, [])
    resets(1)
    assert.deepEqual(session.calls, ['destroy'])
  })

  it('saves up nothing by a quiet time', (t) => {
    const { time, connect } = start(t, { ...checked, maxConcurrentStreams: 50 })
    const { session, request } = connect()
    time.tick(60_000)
    for (let i = 0; i < 99; i++) request({ rstCode: 8 }).emit('close')
    assert.deepEqual(session.calls, [])
    request({ rstCode: 8 }).emit('close')
    assert.deepEqual(session.calls, ['destroy'])
  })
})

describe('a client of HTTP/2 that sends more than its requests explain', () => {
  const perSecond = 256 * 1024

  it('is cut above 256 KiB per second', (t) => {
    const { time, connect } = start(t, checked)
    const [allowed, above] = [connect(), connect()]
    allowed.raw.bytesRead = perSecond
    above.raw.bytesRead = perSecond + 1
    time.tick(1000)
    assert.deepEqual([allowed.session.calls, allowed.raw.calls], [[], []])
    assert.deepEqual([above.session.calls, above.raw.calls], [cut, ['reset', 'destroy']])
    // Only the bytes since the last check count.
    allowed.raw.bytesRead += perSecond
    time.tick(1000)
    assert.deepEqual(allowed.session.calls, [])
    allowed.raw.bytesRead += perSecond + 1
    time.tick(1000)
    assert.deepEqual(allowed.session.calls, cut)
  })

  it('may send as much between two checks that are closer', (t) => {
    const { time, connect } = start(t, { idleTimeoutMs: 400 })
    const { session, raw, request } = connect()
    request()
    time.tick(100)
    raw.bytesRead += perSecond
    time.tick(100)
    assert.deepEqual(session.calls, [])
    // The request was of the first check.
    raw.bytesRead += perSecond + 1000
    time.tick(100)
    assert.deepEqual(session.calls, cut)
  })

  it('may send more before a check that is late', (t) => {
    const { time, connect } = start(t, checked)
    const [allowed, above] = [connect(), connect()]
    allowed.raw.bytesRead = 4 * perSecond
    above.raw.bytesRead = 4 * perSecond + 1
    time.block(4000)
    time.tick(0)
    assert.deepEqual([allowed.session.calls, above.session.calls], [[], cut])
  })

  it('may send maxHeaderBytes more per request, and a byte per 64 received ones', (t) => {
    const { time, connect } = start(t, checked)
    const [allowed, above] = [connect(), connect()]
    for (const [{ raw, request }, bytes] of [
      [allowed, 0],
      [above, 1],
    ] as const) {
      for (let i = 0; i < 3; i++) request()
      raw.bytesWritten = 6400
      raw.bytesRead = perSecond + 3000 + 100 + bytes
    }
    time.tick(1000)
    assert.deepEqual([allowed.session.calls, above.session.calls], [[], cut])
    // Neither the requests nor the received bytes count twice.
    allowed.raw.bytesRead += perSecond + 1
    time.tick(1000)
    assert.deepEqual(allowed.session.calls, cut)
  })

  it('may send any amount as the body of a request or in a tunnel, until that ends', (t) => {
    const { time, connect } = start(t, checked)
    const [uploading, tunnelling] = [connect(), connect()]
    const upload = uploading.request({ endAfterHeaders: false })
    const tunnels = [tunnelling.request({}, 'CONNECT'), tunnelling.request({}, 'CONNECT')]
    const flood = (): void => {
      for (const { raw } of [uploading, tunnelling]) raw.bytesRead += 10 * perSecond
      time.tick(1000)
    }
    flood()
    tunnels[0]?.emit('close')
    flood()
    assert.deepEqual([uploading.session.calls, tunnelling.session.calls], [[], []])
    upload.emit('close')
    tunnels[1]?.emit('close')
    flood()
    assert.deepEqual([uploading.session.calls, tunnelling.session.calls], [cut, cut])
  })

  it('is cut without GOAWAY if its session has ended', (t) => {
    const { time, connect } = start(t, checked)
    const { session, raw } = connect()
    raw.bytesRead = 2 * perSecond
    session.destroyed = true
    time.tick(1000)
    assert.deepEqual([session.calls, raw.calls], [['destroy'], ['destroy', 'destroy']])
  })
})

describe('the sessions of a server', () => {
  it('get GOAWAY with the last request of maxRequests', (t) => {
    const { connect } = start(t, { maxRequests: 3 })
    const { session, request } = connect()
    request()
    request()
    assert.deepEqual(session.calls, [])
    request()
    request()
    assert.deepEqual(session.calls, ['close'])
  })

  it('get no GOAWAY without maxRequests', (t) => {
    const { session, request } = start(t, {}).connect()
    for (let i = 0; i < 3; i++) request()
    assert.deepEqual(session.calls, [])
  })

  it('close with their server, or are destroyed with their connections', (t) => {
    const { sessions, connect } = start(t, {})
    const [one, other] = [connect(), connect()]
    sessions.close()
    assert.deepEqual([one.session.calls, other.session.calls, one.raw.calls], [['close'], ['close'], []])
    sessions.destroy()
    assert.deepEqual([one.session.calls, one.raw.calls], [['close', 'destroy'], ['destroy']])
    assert.deepEqual([other.session.calls, other.raw.calls], [['close', 'destroy'], ['destroy']])
  })

  it('are checked by one timer, which ends with the last of them', (t) => {
    const { time, sessions, connect } = start(t, {})
    const [one, other] = [connect(), connect()]
    assert.equal(time.timers(), 1)
    one.session.emit('close')
    assert.equal(time.timers(), 1)
    other.session.emit('close')
    assert.equal(time.timers(), 0)
    sessions.destroy()
    assert.deepEqual(one.session.calls, [])
    connect()
    assert.equal(time.timers(), 1)
  })

  it('are checked in a quarter of the shortest limit', (t) => {
    for (const bounds of [{ headersTimeoutMs: 400 }, { idleTimeoutMs: 400 }, { requestTimeoutMs: 400 }]) {
      const { time, connect } = start(t, { headersTimeoutMs: 0, ...bounds })
      const { session, raw } = connect()
      raw.bytesRead = 1 << 20
      time.tick(99)
      assert.deepEqual(session.calls, [])
      time.tick(1)
      assert.deepEqual(session.calls, cut)
      t.mock.restoreAll()
    }
  })

  it('ignore a request that has ended before it began', (t) => {
    const { time, connect } = start(t, { ...checked, requestTimeoutMs: 400 })
    const { session, raw, request } = connect()
    const ended = request({ destroyed: true, endAfterHeaders: false })
    assert.equal(ended.listenerCount('close'), 0)
    raw.bytesRead = 1 << 20
    time.tick(1000)
    assert.deepEqual([ended.calls, session.calls], [[], cut])
  })

  it('reset the connection below TLS, which only closes if it is gone or of a Unix domain socket', (t) => {
    const { time, server } = start(t, { headersTimeoutMs: 400 })
    const [raw, secure] = [fake({ remotePort: 7 }), fake({ remotePort: 7, encrypted: true })]
    const [gone, later] = [fake({ remotePort: 8 }), fake({ remotePort: 8, encrypted: true })]
    const unix = fake({ remotePort: undefined })
    const sessions = [new FakeSession(), new FakeSession(), new FakeSession()]
    server.emit('connection', raw)
    server.emit('connection', gone)
    gone.emit('close')
    server.emit('secureConnection', secure)
    server.emit('session', sessions[0])
    server.emit('secureConnection', later)
    server.emit('session', sessions[1])
    server.emit('connection', unix)
    server.emit('session', sessions[2])
    time.tick(400)
    assert.deepEqual([raw.calls, secure.calls], [['reset'], ['destroy']])
    assert.deepEqual([gone.calls, later.calls, unix.calls], [[], ['destroy'], ['destroy']])
    for (const { calls } of sessions) assert.deepEqual(calls, ['destroy'])
  })

  it('know the connection of a peer whose port was used before', (t) => {
    const { time, server } = start(t, { headersTimeoutMs: 400 })
    const [old, raw] = [fake({ remotePort: 7 }), fake({ remotePort: 7 })]
    const session = new FakeSession()
    server.emit('connection', old)
    server.emit('connection', raw)
    old.emit('close')
    server.emit('session', session)
    time.tick(400)
    assert.deepEqual([old.calls, raw.calls], [[], ['reset', 'destroy']])
  })
})
