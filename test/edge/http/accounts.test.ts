import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { IncomingMessage, Server } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { describe, it } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { mockLimits } from '../../helpers/clock.ts'
import { until } from '../../helpers/until.ts'
import { open, get as send } from '../../instance/lifecycle/sockets.ts'
import { atEnd } from '../at-end.ts'
import { get, pair } from '../front.ts'
import type { Upstream } from '../upstream.ts'

const file = (name: string): string => readFileSync(new URL(`../fixtures/localhost.${name}`, import.meta.url), 'utf8')
const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n'
const tls = { key: file('key'), cert: file('crt') }

describe('a request that ends', () => {
  it('lets the next one on its connection begin', async () => {
    const { port } = await pair({ maxConcurrentStreams: 1 })
    const socket = await open(port)
    for (const count of [1, 2, 3]) {
      socket.write(send('/'))
      await until(() => socket.received().match(/HTTP\/1\.1 \d+/g)?.length === count, { what: `response ${count}` })
    }
    assert.deepEqual(
      socket.received().match(/HTTP\/1\.1 \d+/g),
      Array.from({ length: 3 }, () => 'HTTP/1.1 200'),
    )
    socket.destroy()
  })

  it('without a response, because its client left, is counted as aborted and cancelled upstream', async () => {
    const { port, proxy, upstream } = await pair()
    let cancelled = 0
    upstream.handler = (request) => request.socket.on('close', () => cancelled++)
    const socket = await open(port, send('/'))
    await until(() => upstream.seen.length === 1)
    assert.match(proxy.metrics(), /^fleet_proxy_inflight 1$/m)
    socket.destroy()
    await until(() => cancelled === 1, { what: 'the end of the request upstream' })
    await until(() => /^fleet_proxy_inflight 0$/m.test(proxy.metrics()))
    assert.match(proxy.metrics(), /^fleet_proxy_requests_total\{code="aborted"\} 1$/m)
    assert.match(proxy.metrics(), /^fleet_proxy_requests_total\{code="2xx"\} 0$/m)
  })

  it('before its body is complete, by a reset over HTTP/2, is not sent upstream', async () => {
    const { url, proxy, upstream } = await pair({ tls })
    const session = connectHttp2(url, { ca: tls.cert })
    atEnd(() => session.destroy())
    const stream = session.request({ ':path': '/half', ':method': 'POST', 'content-length': 99 }, { endStream: false })
    stream.on('error', () => undefined).write('half a body')
    await until(() => /^fleet_proxy_inflight 1$/m.test(proxy.metrics()), { what: 'the request' })
    stream.close(8)
    await until(() => /^fleet_proxy_inflight 0$/m.test(proxy.metrics()), { what: 'the end of the request' })
    await session.request({ ':path': '/next' }).toArray()
    assert.deepEqual(upstream.seen, ['GET /next'])
  })

  it('too late over HTTP/2 gets 408, and is cancelled upstream', async () => {
    const { url, upstream } = await pair({ tls, requestTimeoutMs: 400, bufferBytes: 0 })
    let cancelled = 0
    upstream.handler = (request) => request.resume().socket.on('close', () => cancelled++)
    const session = connectHttp2(url, { ca: tls.cert })
    atEnd(() => session.destroy())
    const stream = session.request({ ':path': '/', ':method': 'POST' }, { endStream: false })
    stream.on('error', () => undefined).write('never complete')
    const [headers] = await once(stream, 'response')
    assert.equal(headers[':status'], 408)
    await until(() => cancelled === 1, { what: 'the end of the request upstream' })
  })

  it('too late over HTTP/2 is not sent upstream, even if its body ends in the same moment', async (t) => {
    const { url, proxy } = await pair({ tls, requestTimeoutMs: 60_000, probe: { type: 'off' } })
    const { mock } = t.mock.method(proxy.balancer, 'dispatch')
    mockLimits(t)
    const session = connectHttp2(url, { ca: tls.cert })
    atEnd(() => session.destroy())
    const received = once(proxy.server, 'request') as Promise<[IncomingMessage]>
    const stream = session.request({ ':path': '/', ':method': 'POST', 'content-length': 99 }, { endStream: false })
    stream.on('error', () => undefined).write('half a body')
    const responded = once(stream, 'response')
    const [request] = await received
    t.mock.timers.tick(60_000)
    request.emit('end')
    const [headers] = await responded
    assert.deepEqual([headers[':status'], mock.callCount()], [408, 0])
  })
})

describe('close()', () => {
  /** A proxy with a WebSocket that echoes, and a request in flight. */
  async function busy(shutdownTimeoutMs: number) {
    const { url, proxy, upstream } = await pair({ shutdownTimeoutMs, admin: { port: 0 } })
    const server = new WebSocketServer({ noServer: true })
    upstream.server.on('upgrade', (request, socket: Duplex, head) =>
      server.handleUpgrade(request, socket, head, (peer) => peer.on('message', (text) => peer.send(String(text)))),
    )
    const socket = new WebSocket(url.replace('http', 'ws'))
    socket.on('error', () => undefined)
    atEnd(() => socket.terminate())
    await once(socket, 'open')
    let reply = (): void => undefined
    upstream.handler = (request, response) => {
      reply = () => (upstream as Upstream).response(request, response)
    }
    const pending = get(`${url}/pending`)
    await until(() => upstream.seen.includes('GET /pending'))
    return { proxy, socket, pending, reply: () => reply() }
  }

  it('leaves WebSockets open while a request is in flight, then ends them, and at last the operators’ listener', async (t) => {
    const { proxy, socket, pending, reply } = await busy(60_000)
    const closed = proxy.close()
    const { mock } = t.mock.method(proxy.server as Server, 'closeIdleConnections')
    await until(() => mock.callCount() > 2, { what: 'checks of idle connections' })
    const echo = once(socket, 'message')
    socket.send('still there')
    assert.equal(String((await echo)[0]), 'still there')
    assert.equal((await get(`${proxy.adminUrl}/ready`)).status, 503)
    const ended = once(socket, 'close')
    reply()
    assert.equal((await pending).status, 200)
    await Promise.all([ended, closed])
    await assert.rejects(get(`${proxy.adminUrl}/live`, { headers: { connection: 'close' } }))
  })

  it('cuts requests and WebSockets at the deadline, also those whose client does not end its side', async () => {
    const { proxy, socket, pending } = await busy(300)
    const port = Number(proxy.address?.port)
    const stubborn = connect({ port, host: '127.0.0.1', allowHalfOpen: true }).on('error', () => undefined)
    stubborn.write(send('/', `${upgrade}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n`))
    assert.match(String((await once(stubborn, 'data'))[0]), /^HTTP\/1\.1 101 /)
    await Promise.all([once(socket, 'close'), assert.rejects(pending), proxy.close()])
    stubborn.destroy()
  })
})
