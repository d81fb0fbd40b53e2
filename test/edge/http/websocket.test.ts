import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { describe, it } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { until } from '../../helpers/until.ts'
import { front, get, pair, quickProbe } from '../front.ts'
import { raw, statusOf } from '../raw.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'

/** Adds a WebSocket echo server to an upstream. */
function echo(upstream: Upstream): WebSocketServer {
  const webSockets = new WebSocketServer({ noServer: true })
  upstream.server.on('upgrade', (request, socket: Duplex, head) => {
    if (upstream.draining && request.headers['x-fleet-retry']) {
      socket.end('HTTP/1.1 502 Bad Gateway\r\nX-Fleet-Draining: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
      return
    }
    upstream.seen.push(`WS ${request.url}`)
    webSockets.handleUpgrade(request, socket, head, (client) => {
      client.send(JSON.stringify(request.headers))
      client.on('message', (data, binary) => client.send(data, { binary }))
    })
  })
  return webSockets
}

const open = async (
  url: string,
  ...protocols: string[]
): Promise<{ client: WebSocket; headers: Record<string, string> }> => {
  const client = new WebSocket(url.replace('http', 'ws'), protocols)
  client.on('error', () => {})
  const [first] = await once(client, 'message')
  return { client, headers: JSON.parse(String(first)) }
}

describe('a WebSocket', async () => {
  const { url, upstream, proxy } = await pair()
  const webSockets = echo(upstream)

  it('carries text and binary, small and large, in both directions', async () => {
    const { client, headers } = await open(`${url}/chat?x=1`, 'chat')
    assert.equal(client.protocol, 'chat')
    assert.equal(headers['x-forwarded-for'], '127.0.0.1')
    for (const data of ['hi', Buffer.from([0, 255]), Buffer.alloc(1 << 20, 7), 'é'.repeat(70_000)]) {
      client.send(data)
      const [back, binary] = await once(client, 'message')
      assert.equal(binary, typeof data !== 'string')
      assert.ok(Buffer.from(data).equals(back))
    }
    client.ping('are you there')
    assert.equal(String((await once(client, 'pong'))[0]), 'are you there')
    client.close(4001, 'bye')
    assert.equal((await once(client, 'close'))[0], 4001)
  })

  it('without traffic is closed after tunnelTimeoutMs', async () => {
    const { url, upstream } = await pair({ tunnelTimeoutMs: 50 })
    echo(upstream)
    const client = new WebSocket(url.replace('http', 'ws'))
    const [[opened]] = await Promise.all([once(client, 'upgrade'), once(client, 'close')])
    assert.equal(opened.statusCode, 101)
  })

  it('counts as in flight while it is open', async () => {
    const { client } = await open(url)
    assert.equal(proxy.targets[0]?.inflight, 1)
    client.terminate()
    await until(() => proxy.targets[0]?.inflight === 0 && webSockets.clients.size === 0)
  })

  it('receives the close code of the upstream', async () => {
    const { client } = await open(url)
    for (const peer of webSockets.clients) peer.close(1012, 'service restart')
    const [code, reason] = await once(client, 'close')
    assert.deepEqual([code, String(reason)], [1012, 'service restart'])
  })

  it('forwards bytes that arrived with the request', async () => {
    const request = [
      'GET / HTTP/1.1',
      'Host: x',
      'Connection: keep-alive, Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    ].join('\r\n')
    // A masked text frame "hi", with a mask of zeros.
    const frame = '\x81\x82\x00\x00\x00\x00hi'
    const text = await raw(url, `${request}\r\n\r\n${frame}`, (got) => got.endsWith('\x81\x02hi'))
    assert.equal(statusOf(text), 101)
    assert.match(text, /connection: upgrade\r\nupgrade: websocket\r\n/i)
  })

  it('is rejected for an operators’ path', async () => {
    const client = new WebSocket(`${url.replace('http', 'ws')}/metrics`)
    const [, response] = await once(client, 'unexpected-response')
    assert.equal(response.statusCode, 404)
    client.on('error', () => {}).terminate()
  })
})

describe('an upgrade', () => {
  it('that the upstream rejects gets its response', async () => {
    const { url, upstream } = await pair()
    upstream.server.on('upgrade', (_, socket: Duplex) =>
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX-A: b\r\n\r\nno'),
    )
    const client = new WebSocket(url.replace('http', 'ws'))
    const [, response] = await once(client, 'unexpected-response')
    assert.equal(response.statusCode, 403)
    assert.equal(response.headers['x-a'], 'b')
    assert.equal((await response.toArray()).join(''), 'no')
    client.on('error', () => {}).terminate()
  })

  it('to another protocol is removed, and the request is forwarded', async () => {
    const { url } = await pair()
    const text = await raw(
      url,
      'GET /h2c HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n',
    )
    assert.equal(statusOf(text), 200)
    assert.doesNotMatch(text, /"upgrade"|http2-settings/)
  })

  it('goes to another target when one refuses the connection or drains', async () => {
    const upstreams = await startUpstreams(3)
    const { url, proxy } = await front(upstreams, { probe: { ...quickProbe, intervalMs: 60_000 } })
    for (const upstream of upstreams) echo(upstream)
    upstreams[0]?.kill()
    if (upstreams[1]) upstreams[1].draining = true
    for (let i = 0; i < 4; i++) (await open(url)).client.terminate()
    assert.equal(upstreams[2]?.seen.length, 4)
    assert.deepEqual(
      proxy.targets.map(({ state }) => state),
      ['down', 'draining', 'up'],
    )
  })

  it('gets an error response when there is no target', async () => {
    const { url, upstream } = await pair({ queue: { timeoutMs: 0 } })
    upstream.kill()
    const client = new WebSocket(url.replace('http', 'ws'))
    const [, response] = await once(client, 'unexpected-response')
    assert.equal(response.statusCode, 503)
    assert.match((await response.toArray()).join(''), /FLEET_ERR_NO_TARGET/)
    client.on('error', () => {}).terminate()
  })
})

describe('close() of a proxy', () => {
  it('ends WebSockets once in-flight requests have ended', async (t) => {
    const { url, upstream, proxy } = await pair()
    echo(upstream)
    const { client } = await open(url)
    const gate = Promise.withResolvers<void>()
    upstream.handler = (request, response) => void gate.promise.then(() => upstream.response(request, response))
    const slow = get(url)
    await until(() => proxy.targets[0]?.inflight === 2)
    const ended = once(client, 'close')
    const sweep = t.mock.method(proxy.server as Server, 'closeIdleConnections')
    const closed = proxy.close()
    // By the third sweep, WebSockets that the first one ended are gone.
    await until(() => sweep.mock.callCount() > 3)
    client.send('still open')
    const [message] = await Promise.race([once(client, 'message'), ended])
    assert.equal(String(message), 'still open')
    gate.resolve()
    assert.equal((await slow).status, 200)
    await ended
    await closed
    await until(() => proxy.targets[0]?.inflight === 0)
  })
})
