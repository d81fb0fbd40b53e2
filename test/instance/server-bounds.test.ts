import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { Server } from 'node:http'
import { Server as NetServer } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { Http2Sessions } from '../../src/base/http2-sessions.ts'
import { resolveOptions } from '../../src/base/options.ts'
import { boundOptions, boundServer, type ConnectionBounds } from '../../src/instance/server-bounds.ts'

class FakeSocket extends EventEmitter {
  destroyed = false
}

const bound = (server: object, given: ConnectionBounds = {}): Http2Sessions | undefined =>
  boundServer(server as Server, resolveOptions('lifecycle.connections', boundOptions, given), given)

describe('the bounds of an HTTP/1.1 server', () => {
  it('replace the timeout of a request only if Fastify has disabled it', () => {
    for (const [before, given, after] of [
      [0, {}, 300_000],
      [0, { requestTimeoutMs: 70_000 }, 70_000],
      [5_000, { requestTimeoutMs: 70_000 }, 5_000],
    ] as const) {
      const server = Object.assign(new Server(), { requestTimeout: before })
      bound(server, given)
      assert.equal(server.requestTimeout, after)
    }
  })

  it('replace the timeout of headers only if it is set explicitly', () => {
    const servers = [new Server(), new Server()] as const
    const before = servers[0].headersTimeout
    bound(servers[0])
    bound(servers[1], { headersTimeoutMs: 1_234 })
    assert.deepEqual([servers[0].headersTimeout, servers[1].headersTimeout], [before, 1_234])
  })

  it('let no header field disappear, unless the app limits their number', () => {
    const [ours, own] = [new Server(), Object.assign(new Server(), { maxHeadersCount: 50 })]
    bound(ours)
    bound(own)
    assert.deepEqual([ours.maxHeadersCount, own.maxHeadersCount], [0, 50])
  })

  it('limit connections only if a limit is set', () => {
    const [none, some] = [Object.assign(new Server(), { maxConnections: 7 }), new Server()]
    bound(none)
    assert.equal(none.maxConnections, 7, 'that of the app')
    assert.equal(bound(some, { maxConnections: 3 }), undefined)
    assert.equal(some.maxConnections, 3)
  })
})

/** A server for TLS or HTTP/2 that notes its settings. */
function secure(more: object): EventEmitter & { settings?: object } {
  return Object.assign(new EventEmitter(), { setSecureContext() {}, ...more })
}

describe('the bounds of any server', () => {
  /** Whether a connection is watched for a client that does not read. */
  const watches = (server: EventEmitter, event: string): boolean => {
    const socket = new FakeSocket()
    server.emit(event, socket)
    const isWatched = socket.listenerCount('close') > 0
    socket.emit('close')
    return isWatched
  }

  it('cut responses that a client does not read: of TLS above the encryption', () => {
    const plain = new NetServer()
    bound(plain)
    assert.equal(watches(plain, 'connection'), true)
    const tls = secure({})
    bound(tls)
    assert.deepEqual([watches(tls, 'secureConnection'), watches(tls, 'connection')], [true, false])
    const none = new NetServer()
    bound(none, { sendTimeoutMs: 0 })
    assert.equal(watches(none, 'connection'), false)
  })

  it('survive errors of its connections', () => {
    const server = new NetServer()
    bound(server)
    const socket = new FakeSocket()
    server.emit('connection', socket)
    assert.equal(socket.emit('error', new Error('reset')), true)
  })

  it('of HTTP/2 are its settings, and its sessions are watched', (t: TestContext) => {
    const watch = t.mock.method(Http2Sessions.prototype, 'watch', () => undefined)
    const settings: object[] = []
    const server = secure({ updateSettings: (given: object) => void settings.push(given) })
    assert.ok(bound(server, { maxConcurrentStreams: 9 }) instanceof Http2Sessions)
    assert.deepEqual(settings, [{ maxConcurrentStreams: 9, maxHeaderListSize: 16_384 }])
    assert.deepEqual(
      watch.mock.calls.map(({ arguments: [watched] }) => watched as unknown),
      [server],
    )
  })

  it('have these defaults', () => {
    assert.deepEqual(
      { ...resolveOptions('lifecycle.connections', boundOptions, {}) },
      {
        headersTimeoutMs: 60_000,
        requestTimeoutMs: 300_000,
        idleTimeoutMs: 72_000,
        sendTimeoutMs: 60_000,
        maxConcurrentStreams: 128,
        maxConnections: 0,
      },
    )
  })
})
