import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { Server as HttpServer } from 'node:http'
import { Server } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Http2Sessions } from '../../../src/base/http2-sessions.ts'
import { Connections } from '../../../src/instance/lifecycle/connections.ts'
import type { Response } from '../../../src/instance/lifecycle/in-flight.ts'
import type { ResolvedBounds } from '../../../src/instance/server-bounds.ts'

class FakeSocket extends EventEmitter {
  bytesRead = 0
  destroyed = false
  destroy(): void {
    this.destroyed = true
    this.emit('close')
  }
}

const bounds = { maxConcurrentStreams: 2, maxConnections: 0, sendTimeoutMs: 0 } as ResolvedBounds

/** Connections whose clock the test moves. */
function open(t: TestContext) {
  let now = 10_000
  t.mock.method(performance, 'now', () => now)
  const connections = new Connections(bounds)
  const server = new Server()
  connections.watch(server)
  const connect = (): FakeSocket => {
    const socket = new FakeSocket()
    server.emit('connection', socket)
    return socket
  }
  const request = (socket: FakeSocket): Response =>
    Object.assign(new EventEmitter(), { req: { socket }, socket }) as unknown as Response
  /** Sweeps after `ms`, and lets what was found take effect. */
  const sweep = async (ms: number, quietMs = 250): Promise<void> => {
    now += ms
    connections.sweep(quietMs)
    await nextTurn()
  }
  const pass = (ms: number): void => {
    now += ms
  }
  return { connections, server, connect, request, sweep, pass }
}
const get = { method: 'GET', routeOptions: { url: '/items/:id' } }

describe('a sweep', () => {
  it('closes a socket on which nothing has arrived for the quiet time since it was first seen', async (t) => {
    const { connections, connect, sweep } = open(t)
    const socket = connect()
    await sweep(60_000)
    await sweep(249)
    assert.deepEqual([socket.destroyed, connections.open], [false, 1])
    await sweep(1)
    assert.deepEqual([socket.destroyed, connections.open], [true, 0])
  })

  it('begins the quiet time anew when something arrives', async (t) => {
    const { connect, sweep } = open(t)
    const socket = connect()
    await sweep(0)
    socket.bytesRead = 1
    await sweep(249)
    await sweep(249)
    assert.equal(socket.destroyed, false)
    await sweep(1)
    assert.equal(socket.destroyed, true)
  })

  it('does not close a socket whose request arrives in the same turn', async (t) => {
    const { connections, connect, sweep, pass } = open(t)
    const socket = connect()
    await sweep(0)
    pass(250)
    connections.sweep(250)
    socket.bytesRead = 1
    await nextTurn()
    assert.equal(socket.destroyed, false)
  })

  it('closes a socket that keeps sending without a request, two seconds after the quiet time', async (t) => {
    const { connect, sweep } = open(t)
    const socket = connect()
    await sweep(0)
    for (let ms = 0; ms < 2_200; ms += 100) {
      socket.bytesRead++
      await sweep(100)
    }
    socket.bytesRead++
    await sweep(49)
    assert.equal(socket.destroyed, false)
    socket.bytesRead++
    await sweep(1)
    assert.equal(socket.destroyed, true)
  })

  it('keeps a socket with a request in flight, and counts from its end', async (t) => {
    const { connections, connect, request, sweep } = open(t)
    const [socket, idle] = [connect(), connect()]
    const response = request(socket)
    await sweep(0)
    connections.begin(response, get)
    await sweep(60_000)
    await sweep(60_000)
    assert.deepEqual([socket.destroyed, idle.destroyed, connections.inFlight], [false, true, 1])
    response.emit('close')
    await sweep(60_000)
    await sweep(249)
    assert.deepEqual([socket.destroyed, connections.inFlight], [false, 0])
    await sweep(1)
    assert.equal(socket.destroyed, true)
  })
})

describe('a server with TLS and HTTP/2', () => {
  /** Its connections, and what became of its sessions. */
  function secure(t: TestContext) {
    let now = 10_000
    t.mock.method(performance, 'now', () => now)
    const calls: string[] = []
    for (const name of ['close', 'destroy'] as const)
      t.mock.method(Http2Sessions.prototype, name, () => void calls.push(name))
    const connections = new Connections(bounds)
    const server = Object.assign(new EventEmitter(), { setSecureContext() {}, updateSettings() {} })
    connections.watch(server as never)
    const connect = (alpnProtocol: string | false): FakeSocket => {
      const socket = Object.assign(new FakeSocket(), { alpnProtocol, remoteAddress: '192.0.2.1', remotePort: 1 })
      server.emit('connection', new FakeSocket())
      server.emit('secureConnection', socket)
      return socket
    }
    const sweep = async (): Promise<void> => {
      now += 60_000
      connections.sweep(250)
      await nextTurn()
    }
    return { connections, calls, connect, sweep }
  }

  it('counts its connections once, above the encryption', (t) => {
    const { connections, connect } = secure(t)
    connect('h2')
    connect('http/1.1')
    assert.equal(connections.open, 2)
  })

  it('leaves the end of HTTP/2 connections to their sessions, which get GOAWAY', async (t) => {
    const { connections, calls, connect, sweep } = secure(t)
    const sockets = ['h2', 'http/1.1', false].map((protocol) => connect(protocol as string | false))
    await sweep()
    await sweep()
    assert.deepEqual(
      sockets.map(({ destroyed }) => destroyed),
      [false, true, true],
    )
    connections.goAway()
    assert.deepEqual(calls, ['close'])
    connections.destroy()
    assert.deepEqual([calls, sockets[0]?.destroyed], [['close', 'destroy'], true])
  })
})

describe('requests', () => {
  it('are accepted up to the bound of their connection, and again after one has ended', (t) => {
    const { connections, connect, request } = open(t)
    const [socket, other] = [connect(), connect()]
    const responses = [1, 2, 3].map(() => request(socket))
    assert.deepEqual(
      responses.map((response) => connections.begin(response, get)),
      [true, true, false],
    )
    assert.equal(connections.begin(request(other), get), true)
    for (const response of responses.slice(1)) response.emit('close')
    assert.equal(connections.begin(request(socket), get), true)
    assert.equal(connections.begin(request(socket), get), false)
    assert.deepEqual([connections.flow.waiting, connections.responses().length], [4, 4])
  })

  it('are counted once, although their route is known only later', (t) => {
    const { connections, connect, request, pass } = open(t)
    const response = request(connect())
    connections.begin(response)
    assert.deepEqual([connections.inFlight, connections.flow.waiting], [1, 0])
    pass(12.5)
    assert.deepEqual(connections.unfinished(), [{ method: 'unknown', route: 'unknown', ageMs: 13 }])
    connections.begin(response, get)
    assert.deepEqual([connections.inFlight, connections.flow.waiting], [1, 1])
    assert.deepEqual(connections.unfinished(), [{ method: 'GET', route: '/items/:id', ageMs: 13 }])
    pass(10)
    connections.responding(response)
    assert.deepEqual(connections.flow, { waiting: 0, responses: 1, waitedMs: 22.5 })
    assert.equal(connections.unfinished().length, 1, 'its response is not complete')
  })

  it('of HTTP/2 are bounded by their session', (t) => {
    const { connections, connect } = open(t)
    const socket = connect()
    const stream = () =>
      Object.assign(new EventEmitter(), { req: { socket, stream: {} }, socket }) as unknown as Response
    for (let i = 0; i < 5; i++) assert.equal(connections.begin(stream(), get), true)
  })
})

describe('the listener', () => {
  it('is closed after the second turn in which no connection arrived, at the latest after a thousand', async (t) => {
    const { connections, server } = open(t)
    let closed = 0
    const listening = (): void => {
      closed = 0
      Object.defineProperty(server, 'listening', { value: true, configurable: true })
    }
    t.mock.method(Server.prototype, 'close', function close(this: Server) {
      assert.equal(this, server)
      closed++
    })
    listening()
    let turns = 0
    const count = async (): Promise<void> => {
      while (closed === 0) {
        await nextTurn()
        turns++
      }
    }
    await Promise.all([connections.stopListening(), count()])
    assert.ok(turns >= 2 && turns <= 3, `${turns} turns`)
    listening()
    turns = 0
    const busy = setInterval(() => {}, 1_000)
    const arrive = async (): Promise<void> => {
      while (closed === 0) {
        // Every turn accepts one.
        server.emit('connection', new FakeSocket())
        await nextTurn()
        turns++
      }
    }
    await Promise.all([connections.stopListening(), arrive()])
    clearInterval(busy)
    assert.ok(turns >= 999 && turns <= 1_001, `${turns} turns`)
  })

  it('that does not listen is not closed', async (t) => {
    const { connections } = open(t)
    const close = t.mock.method(Server.prototype, 'close', () => undefined)
    await connections.stopListening()
    assert.equal(close.mock.callCount(), 0)
  })

  it('gets the bounds, and those that replace its own if they were set explicitly', () => {
    const given = { headersTimeoutMs: 1_234 }
    const [own, explicit] = [new HttpServer(), new HttpServer()]
    const before = own.headersTimeout
    new Connections({ ...bounds, ...given, maxConnections: 5 }).watch(own)
    new Connections({ ...bounds, ...given }, given).watch(explicit)
    assert.deepEqual([own.headersTimeout, own.maxConnections, explicit.headersTimeout], [before, 5, 1_234])
  })

  it('is watched once', (t) => {
    const { connections, server, connect } = open(t)
    const before = server.listenerCount('connection')
    connections.watch(server)
    assert.equal(server.listenerCount('connection'), before)
    connect()
    assert.equal(connections.open, 1)
    const sockets = [connect(), connect()]
    connections.destroy()
    assert.deepEqual([sockets.every(({ destroyed }) => destroyed), connections.open], [true, 0])
  })
})
