import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { Duplex } from 'node:stream'
import { describe, it, type TestContext } from 'node:test'
import type { Dispatcher } from 'undici'
import { FleetError } from '../../../src/base/errors.ts'
import { StallGuard } from '../../../src/base/socket-bounds.ts'
import { streamClient, Tunnel, type TunnelClient, upgradedClient, writeRaw } from '../../../src/edge/http/tunnel.ts'
import { Tunnels } from '../../../src/edge/http/tunnels.ts'
import { clock } from '../../helpers/clock.ts'

const turn = (): Promise<void> => new Promise(setImmediate)

/** A connection that records what it is sent. */
class Side extends Duplex {
  sent = ''
  accepts = true
  constructor() {
    super({ highWaterMark: 4 })
  }
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.sent += chunk.toString('latin1')
    if (this.accepts) done()
  }
}
const request = { headers: {} } as IncomingMessage

/** A tunnel whose client records what happens. */
function tunnelOf(t: TestContext, head = '') {
  clock(t)
  const calls: unknown[] = []
  const socket = new Side()
  const client: TunnelClient = {
    socket,
    accepts: (status) => status < 600,
    open: (headers) => calls.push(['open', { ...headers }]),
    respond: (status, headers) => calls.push(['respond', status, { ...headers }]),
    fail: ({ code }) => calls.push(['fail', code]),
    breakOff: () => calls.push('break off'),
  }
  const open = new Set<Duplex>()
  const bounds = { idleTimeoutMs: 0, stalls: new StallGuard(0) }
  const tunnel = new Tunnel(client, Buffer.from(head), open, bounds)
  const controls: string[] = []
  const controller = {
    paused: false,
    abort: ({ code }: FleetError) => controls.push(`abort ${code}`),
    pause: () => controls.push('pause'),
    resume: () => controls.push('resume'),
  } as unknown as Dispatcher.DispatchController
  return { tunnel, socket, calls, open, controller, controls }
}

describe('a tunnel that its upstream accepts', () => {
  it('opens, sends the bytes that the client has already sent, and is known until it closes', async (t) => {
    const { tunnel, socket, calls, open, controller } = tunnelOf(t, 'early')
    const upstream = new Side()
    tunnel.onRequestUpgrade(controller, 101, { upgrade: 'WebSocket' }, upstream)
    upstream.push('hello')
    await turn()
    assert.deepEqual([calls, upstream.sent, socket.sent], [[['open', { upgrade: 'WebSocket' }]], 'early', 'hello'])
    assert.deepEqual([...open], [socket])
    tunnel.onResponseError(null, new Error('reset'))
    assert.equal(calls.at(-1), 'break off')
    socket.destroy()
    await turn()
    assert.equal(open.size, 0)
  })

  it('is closed if its client has left, or if the upstream chose another protocol', async (t) => {
    const gone = tunnelOf(t)
    gone.socket.destroy()
    const other = tunnelOf(t)
    for (const [{ tunnel, controller }, upgrade] of [
      [gone, 'websocket'],
      [other, 'h2c'],
    ] as const) {
      const upstream = new Side()
      tunnel.onRequestUpgrade(controller, 101, { upgrade }, upstream)
      assert.equal(upstream.destroyed, true)
    }
    assert.deepEqual([gone.calls, other.calls], [[], [['fail', 'FLEET_ERR_UPSTREAM_FAILED']]])
    assert.deepEqual([other.open.size, other.socket.listenerCount('readable')], [0, 0])
  })
})

describe('a tunnel that its upstream rejects', () => {
  it('forwards the response, which ends the connection', async (t) => {
    const { tunnel, socket, calls, controller } = tunnelOf(t)
    tunnel.onResponseStart(controller, 103, {})
    tunnel.onResponseStart(controller, 403, { a: '1' })
    tunnel.onResponseData(controller, Buffer.from('no'))
    tunnel.onResponseEnd()
    await turn()
    assert.deepEqual([calls, socket.sent, socket.writableEnded], [[['respond', 403, { a: '1' }]], 'no', true])
    assert.equal(socket.listenerCount('readable'), 0)
  })

  it('reads the response no faster than its client', async (t) => {
    const { tunnel, socket, controller, controls } = tunnelOf(t)
    tunnel.onResponseStart(controller, 403, {})
    socket.accepts = false
    tunnel.onResponseData(controller, Buffer.from('longer than 4'))
    assert.deepEqual(controls, ['pause'])
    tunnel.onResponseData(Object.assign(controller, { paused: true }), Buffer.from('more'))
    assert.deepEqual([controls, socket.listenerCount('drain')], [['pause'], 1])
    socket.emit('drain')
    assert.deepEqual(controls, ['pause', 'resume'])
    socket.destroy()
    tunnel.onResponseData(Object.assign(controller, { paused: false }), Buffer.from('late'))
    assert.deepEqual(controls, ['pause', 'resume'])
  })

  it('aborts a status that the client cannot be sent', (t) => {
    const { tunnel, calls, controller, controls } = tunnelOf(t)
    tunnel.onResponseStart(controller, 600, {})
    assert.deepEqual([calls, controls], [[], ['abort FLEET_ERR_UPSTREAM_FAILED']])
  })

  it('is an error before the response, and a break after its start', (t) => {
    const before = tunnelOf(t)
    before.tunnel.onResponseError(null, new Error('refused'))
    const after = tunnelOf(t)
    after.tunnel.onResponseStart(after.controller, 403, {})
    after.tunnel.onResponseError(null, new Error('lost'))
    assert.deepEqual([before.calls, after.calls.slice(1)], [[['fail', 'FLEET_ERR_UPSTREAM_FAILED']], ['break off']])
  })
})

describe('a client of HTTP/1.1 that asks for an upgrade', () => {
  it('gets 101, or the response with the end of its connection', () => {
    const sent = (use: (client: TunnelClient) => void): string => {
      const socket = new Side()
      use(upgradedClient(request, socket))
      return socket.sent
    }
    const headers = { 'sec-websocket-accept': 'x', trailer: 't', 'content-length': '3', a: '1' }
    assert.equal(
      sent((client) => client.open(headers)),
      'HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\na: 1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n',
    )
    const rest = 'sec-websocket-accept: x\r\ncontent-length: 3\r\na: 1\r\nconnection: close\r\n\r\n'
    assert.equal(
      sent((client) => client.respond(403, headers)),
      `HTTP/1.1 403 Forbidden\r\n${rest}`,
    )
    assert.equal(
      sent((client) => client.respond(299, {})),
      'HTTP/1.1 299 \r\nconnection: close\r\n\r\n',
    )
    assert.equal(
      sent((client) => client.respond(204, headers)),
      `HTTP/1.1 204 No Content\r\n${rest.replace('content-length: 3\r\n', '')}`,
    )
    assert.equal(upgradedClient(request, new Side()).accepts(999), true)
    const broken = new Side()
    upgradedClient(request, broken).breakOff()
    assert.equal(broken.destroyed, true)
  })

  it('gets an error page, in the form that it accepts', (t) => {
    clock(t)
    const socket = new Side()
    upgradedClient({ headers: { accept: 'text/html' } } as IncomingMessage, socket).fail(
      new FleetError('FLEET_ERR_NO_TARGET'),
    )
    assert.match(
      socket.sent,
      /^HTTP\/1\.1 503 Service Unavailable\r\ncontent-type: text\/html.*\r\nconnection: close\r\n\r\n<!doctype/s,
    )
    const gone = new Side()
    gone.destroy()
    writeRaw(gone, new FleetError('FLEET_ERR_NO_TARGET'))
    assert.equal(gone.sent, '')
  })
})

describe('a client of HTTP/2 that asks for a WebSocket', () => {
  function stream(state: object = {}) {
    const calls: unknown[] = []
    const fake = Object.assign(new Side(), {
      ...{ respond: (fields: object) => calls.push({ ...fields }), close: (code: number) => calls.push(code) },
      ...state,
    })
    return { calls, socket: fake, client: streamClient(request, fake as unknown as ServerHttp2Stream) }
  }
  const headers = { 'sec-websocket-accept': 'x', trailer: 't', 'content-length': '3', a: '1' }

  it('gets 200, or the response', () => {
    const { client, calls } = stream()
    client.open(headers)
    client.respond(403, headers)
    client.respond(204, headers)
    client.respond(205, headers)
    assert.deepEqual(calls, [
      { ':status': 200, a: '1' },
      { ':status': 403, 'sec-websocket-accept': 'x', 'content-length': '3', a: '1' },
      { ':status': 204, 'sec-websocket-accept': 'x', a: '1' },
      { ':status': 205, 'sec-websocket-accept': 'x', a: '1' },
    ])
    assert.deepEqual([client.accepts(599), client.accepts(600)], [true, false])
  })

  it('gets an error page with the end of its stream', async () => {
    const { client, calls, socket } = stream()
    client.fail(new FleetError('FLEET_ERR_NO_TARGET'))
    await turn()
    assert.equal((calls[0] as Record<string, unknown>)[':status'], 503)
    assert.match(socket.sent, /FLEET_ERR_NO_TARGET/)
    assert.deepEqual(calls.slice(1), [0])
  })

  it('gets nothing once its stream is closed or has a head, and an error when it breaks off', () => {
    for (const state of [{ closed: true }, { headersSent: true }]) {
      const { client, calls, socket } = stream()
      for (const [name, value] of Object.entries(state)) Object.defineProperty(socket, name, { value })
      client.open({})
      client.fail(new FleetError('FLEET_ERR_NO_TARGET'))
      assert.deepEqual([calls, socket.sent], [[], ''])
      client.breakOff()
      assert.deepEqual(calls, [2])
    }
  })
})

describe('an upgrade', () => {
  /** Tunnels whose requests are admitted as `admitted` says. */
  function tunnelsOf(admitted: unknown): Tunnels {
    const bounds = { idleTimeoutMs: 0, stalls: new StallGuard(0) }
    return new Tunnels({ admit: () => admitted } as never, { of: () => undefined } as never, bounds)
  }
  const asked = { method: 'GET', headers: { upgrade: 'websocket' } } as unknown as IncomingMessage

  it('that is rejected is closed at the end of a shutdown, and forgotten once it is closed', async (t) => {
    const tunnels = tunnelsOf(new FleetError('FLEET_ERR_PATH_BLOCKED'))
    const [open, closed] = [new Side(), new Side()]
    for (const socket of [open, closed]) tunnels.upgrade(asked, socket, Buffer.alloc(0))
    assert.match(open.sent, /^HTTP\/1\.1 404 /)
    closed.destroy()
    await turn()
    const { mock } = t.mock.method(closed, 'destroy')
    tunnels.destroy()
    assert.deepEqual([open.destroyed, mock.callCount()], [true, 0])
  })

  it('is cancelled upstream when its client leaves before the upstream has answered', async () => {
    const aborted: string[] = []
    const exchange = { abort: ({ code }: FleetError) => void aborted.push(code) }
    const pool = { rejects: () => undefined, balancer: { dispatch: () => exchange } }
    const socket = new Side()
    tunnelsOf({ pool, length: 0, options: {}, input: {} }).upgrade(asked, socket, Buffer.alloc(0))
    socket.destroy()
    await turn()
    assert.deepEqual(aborted, ['FLEET_ERR_REQUEST_INVALID'])
  })

  it('is not sent upstream while its pool is in maintenance', () => {
    const pool = { rejects: () => new FleetError('FLEET_ERR_MAINTENANCE'), balancer: {} }
    const socket = new Side()
    tunnelsOf({ pool, length: 0, options: {}, input: {} }).upgrade(asked, socket, Buffer.alloc(0))
    assert.match(socket.sent, /^HTTP\/1\.1 503 .*FLEET_ERR_MAINTENANCE/s)
  })

  it('with a body is rejected', () => {
    const socket = new Side()
    tunnelsOf({ length: 1 }).upgrade(asked, socket, Buffer.alloc(0))
    assert.match(socket.sent, /^HTTP\/1\.1 400 /)
  })
})
