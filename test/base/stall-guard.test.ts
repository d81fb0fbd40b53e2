import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { describe, it, type TestContext } from 'node:test'
import {
  endConnection,
  guardConnections,
  lingerMs,
  RecentConnections,
  StallGuard,
  sweepMs,
} from '../../src/base/socket-bounds.ts'
import { clock } from '../helpers/clock.ts'
import { fake } from './fake-socket.ts'

describe('the interval of checks', () => {
  it('is a quarter of the shortest limit, from 25 ms to a second', () => {
    assert.deepEqual([sweepMs(400, 800), sweepMs(800, 400)], [100, 100])
    assert.deepEqual([sweepMs(4), sweepMs(100), sweepMs(104)], [25, 25, 26])
    assert.deepEqual([sweepMs(60_000), sweepMs(4000), sweepMs(3996)], [1000, 1000, 999])
  })

  it('does not depend on limits that are off', () => {
    assert.deepEqual([sweepMs(0), sweepMs(), sweepMs(0, 400), sweepMs(1)], [1000, 1000, 100, 25])
  })
})

describe('a stalled connection', () => {
  const stalled = { writableLength: 10, bytesWritten: 10 }
  function watch(t: TestContext, ...sockets: ReturnType<typeof fake>[]) {
    const time = clock(t)
    const guard = new StallGuard(400)
    for (const socket of sockets) guard.add(socket)
    return { guard, time }
  }

  it('is reset once nothing has been sent for the time limit', (t) => {
    const socket = fake(stalled)
    const { time } = watch(t, socket)
    // Noticed at the first check, 100 ms later.
    time.tick(499)
    assert.deepEqual(socket.calls, [])
    time.tick(1)
    assert.deepEqual(socket.calls, ['reset', 'destroy'])
  })

  it('stays while bytes are sent', (t) => {
    const socket = fake({ writableLength: 1000 })
    const { time } = watch(t, socket)
    for (let i = 0; i < 20; i++) {
      time.tick(100)
      if (i % 3 === 0) socket.bytesWritten = (socket.bytesWritten ?? 0) + 1
    }
    assert.deepEqual(socket.calls, [])
    time.tick(600)
    assert.deepEqual(socket.calls, ['reset', 'destroy'])
  })

  it('that only queues more bytes has sent nothing', (t) => {
    const socket = fake(stalled)
    const { time } = watch(t, socket)
    for (let i = 0; i < 5; i++) {
      time.tick(100)
      // Node counts queued bytes as written.
      socket.bytesWritten = (socket.bytesWritten ?? 0) + 5
      Object.assign(socket, { writableLength: socket.writableLength + 5 })
    }
    assert.deepEqual(socket.calls, ['reset', 'destroy'])
  })

  it('starts anew after it was drained, at or between two checks', (t) => {
    const atCheck = fake(stalled)
    const between = fake({ ...stalled, writableNeedDrain: true })
    const { time } = watch(t, atCheck, between)
    time.tick(300)
    Object.assign(atCheck, { writableLength: 0 })
    between.emit('drain')
    time.tick(100)
    Object.assign(atCheck, { writableLength: 10 })
    time.tick(300)
    assert.deepEqual([atCheck.calls, between.calls], [[], []])
    time.tick(200)
    assert.deepEqual(
      [atCheck.calls, between.calls],
      [
        ['reset', 'destroy'],
        ['reset', 'destroy'],
      ],
    )
  })

  it('is one that has sent everything but its end', (t) => {
    const ending = fake({ writableEnded: true })
    const ended = fake({ writableEnded: true, writableFinished: true })
    const idle = fake()
    const { time } = watch(t, ending, ended, idle)
    time.tick(500)
    assert.deepEqual([ending.calls, ended.calls, idle.calls], [['destroy', 'destroy'], [], []])
  })

  it('is destroyed without a reset below TLS, at a Unix domain socket, and if its stream is closed already', (t) => {
    const tls = fake({ ...stalled, encrypted: true })
    const unix = fake({ ...stalled, remotePort: undefined })
    const { time } = watch(t, tls, unix)
    time.tick(500)
    assert.deepEqual([tls.calls, unix.calls], [['destroy'], ['destroy']])
  })

  it('of HTTP/2 ends with CANCEL, so that the response does not look complete', (t) => {
    const stream = fake({ writableLength: 10, bytesWritten: undefined, remotePort: undefined, rstCode: 0 })
    const { time } = watch(t, stream)
    time.tick(500)
    assert.deepEqual(stream.calls, ['close 8', 'destroy'])
  })

  it('of HTTP/2, which does not count its bytes, stays while fewer are left', (t) => {
    const stream = fake({ writableLength: 1000, bytesWritten: undefined, remotePort: undefined, rstCode: 0 })
    const { time } = watch(t, stream)
    for (let i = 0; i < 20; i++) {
      time.tick(100)
      Object.assign(stream, { writableLength: stream.writableLength - 10 })
    }
    assert.deepEqual(stream.calls, [])
  })

  it('is watched once, and no longer after its close', (t) => {
    const socket = fake(stalled)
    const { guard, time } = watch(t, socket, socket)
    assert.equal(socket.listenerCount('close'), 1)
    time.tick(100)
    socket.emit('close')
    time.tick(1000)
    assert.deepEqual(socket.calls, [])
    assert.equal(time.timers(), 0)
    guard.add(socket)
    assert.equal(time.timers(), 1)
    // A stall before the close does not count.
    time.tick(400)
    assert.deepEqual(socket.calls, [])
  })

  it('keeps the checks of the others going when it closes', (t) => {
    const [one, other] = [fake(stalled), fake(stalled)]
    const { time } = watch(t, one, other)
    assert.equal(time.timers(), 1)
    one.emit('close')
    time.tick(500)
    assert.deepEqual([one.calls, other.calls], [[], ['reset', 'destroy']])
  })

  it('stays if there is no limit, or if it is closed already', (t) => {
    const time = clock(t)
    const socket = fake(stalled)
    new StallGuard(0).add(socket)
    new StallGuard(400).add(fake({ ...stalled, destroyed: true }))
    assert.equal(time.timers(), 0)
    time.tick(10_000)
    assert.deepEqual(socket.calls, [])
  })
})

describe('connections with their last response', () => {
  it('are destroyed above the maximum, the oldest first', () => {
    const recent = new RecentConnections(2)
    const [a, b, c, d] = [fake(), fake(), fake(), fake()]
    recent.add(a)
    recent.add(b)
    assert.deepEqual([a.destroyed, b.destroyed], [false, false])
    recent.add(c)
    assert.deepEqual([a.destroyed, b.destroyed, c.destroyed], [true, false, false])
    b.emit('close')
    recent.add(d)
    assert.deepEqual([c.destroyed, d.destroyed], [false, false])
    recent.destroy()
    assert.deepEqual([b.destroyed, c.destroyed, d.destroyed], [false, true, true])
  })

  it('end with it, read on, and are destroyed after the time limit', (t) => {
    const time = clock(t)
    const [withLast, without] = [fake(), fake()]
    endConnection(withLast, 'bye', 50)
    endConnection(without)
    assert.deepEqual(
      [withLast.calls, without.calls],
      [
        ['end bye latin1', 'resume'],
        ['end', 'resume'],
      ],
    )
    withLast.emit('error', new Error('reset'))
    time.tick(49)
    assert.equal(withLast.destroyed, false)
    time.tick(1)
    assert.equal(withLast.destroyed, true)
    assert.equal(lingerMs, 1000)
    time.tick(949)
    assert.equal(without.destroyed, false)
    time.tick(1)
    assert.equal(without.destroyed, true)
  })

  it('need no timer once they are closed', (t) => {
    const time = clock(t)
    const [closed, open] = [fake({ destroyed: true }), fake()]
    endConnection(closed, 'bye')
    assert.deepEqual([closed.calls, time.timers()], [[], 0])
    endConnection(open)
    assert.equal(time.timers(), 1)
    open.emit('close')
    assert.equal(time.timers(), 0)
  })
})

describe('the errors of a server', () => {
  it('have a listener on every connection, with TLS once it is secure, and on the server while it listens', () => {
    for (const [server, event] of [
      [new EventEmitter(), 'connection'],
      [Object.assign(new EventEmitter(), { setSecureContext() {} }), 'secureConnection'],
    ] as const) {
      guardConnections(server as unknown as Parameters<typeof guardConnections>[0])
      const socket = fake()
      server.emit(event, socket)
      socket.emit('error', new Error('reset'))
      assert.throws(() => server.emit('error', new Error('EMFILE')), { message: 'EMFILE' })
      server.emit('listening')
      server.emit('listening')
      server.emit('error', new Error('EMFILE'))
      assert.equal(server.listenerCount('error'), 1)
    }
  })
})
