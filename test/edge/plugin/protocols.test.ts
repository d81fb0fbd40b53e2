import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { connect as connectHttp2, createServer as createHttp2Server, createSecureServer } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { WebSocket, WebSocketServer } from 'ws'
import { StallGuard } from '../../../src/base/socket-bounds.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { type ProxyPluginOptions, proxy } from '../../../src/edge/plugin/index.ts'
import fleet from '../../../src/index.ts'
import { until } from '../../helpers/until.ts'
import { atEnd } from '../at-end.ts'
import { get, quickProbe } from '../front.ts'
import { pem, startListening } from '../listening.ts'
import { raw } from '../raw.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'

const echo: RequestListener = (request, response) => {
  if (request.url === '/ready') response.end()
  else response.end(JSON.stringify({ url: request.url, version: request.httpVersion, host: request.headers.host }))
}

async function listen(app: FastifyInstance): Promise<string> {
  atEnd(() => app.close())
  return app.listen({ port: 0, host: '127.0.0.1' })
}

async function front(options: ProxyPluginOptions & { prefix?: string }): Promise<string> {
  const app = Fastify()
  app.register(proxy, { probe: quickProbe, ...options })
  return listen(app)
}

describe('the proxy plugin forwards to', () => {
  it('HTTPS with its own authority', async () => {
    const port = await startListening(createHttpsServer(pem, echo))
    const url = await front({ targets: [{ url: `https://localhost:${port}`, ca: pem.cert }] })
    assert.equal(JSON.parse((await get(`${url}/a`)).text).url, '/a')
    const strict = await front({ targets: [`https://localhost:${port}`], queue: { timeoutMs: 1 } })
    assert.equal((await get(strict)).status, 503)
  })

  it('HTTP/2, with TLS and without', async () => {
    for (const [scheme, server] of [
      ['http', createHttp2Server(echo as never)],
      ['https', createSecureServer(pem, echo as never)],
    ] as const) {
      const port = await startListening(server)
      const url = await front({ targets: [{ url: `${scheme}://localhost:${port}/base`, http2: true, ca: pem.cert }] })
      const seen = JSON.parse((await get(`${url}/a`)).text)
      assert.deepEqual([seen.url, seen.version], ['/base/a', '2.0'])
    }
  })

  it('a Unix domain socket', async () => {
    const path = join(temporaryFolder('unix'), 'app.sock')
    await startListening(createServer(echo), path)
    const url = await front({ prefix: '/api', targets: [`unix+http://${encodeURIComponent(path)}/base`] })
    assert.deepEqual(JSON.parse((await get(`${url}/api/a`)).text), {
      url: '/base/a',
      version: '1.1',
      host: 'localhost',
    })
  })

  it('HTTP/1.1 for clients of HTTP/2', async () => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    upstream.handler = (_, response) => {
      response.writeHead(200, { 'set-cookie': ['a=1', 'b=2'], 'x-up': 'y', connection: 'x-hop', 'x-hop': 'z' })
      response.addTrailers({ 'x-sum': '42' })
      response.end('hello')
    }
    const app = Fastify({ http2: true, https: pem })
    app.register(proxy, { targets: [upstream.url] })
    const session = connectHttp2(await listen(app as never), { ca: pem.cert })
    atEnd(() => session.destroy())
    const stream = session.request({ ':path': '/a?b', ':authority': 'shop.example', cookie: ['a=b', 'c=d'] })
    let trailers: object = {}
    stream.on('trailers', (received) => {
      trailers = received
    })
    const [headers] = await once(stream, 'response')
    assert.equal(String(Buffer.concat(await stream.toArray())), 'hello')
    assert.deepEqual([headers[':status'], headers['x-up'], headers['x-hop']], [200, 'y', undefined])
    assert.deepEqual(headers['set-cookie'], ['a=1', 'b=2'])
    assert.equal((trailers as { 'x-sum'?: string })['x-sum'], '42')
  })

  it('a server-sent event stream, with fleet, until the client disconnects', async () => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    let closed = false
    upstream.handler = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'x-instance-id': 'theirs' })
      response.write('data: 1\n\n')
      response.on('close', () => {
        closed = true
      })
    }
    const app = Fastify()
    await app.register(fleet, { lifecycle: { signals: false, drainDelayMs: 0 } })
    app.register(proxy, { prefix: '/api', targets: [upstream.url] })
    const response = await fetch(`${await listen(app)}/api/events`)
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    assert.equal(String(Buffer.from((await reader.read()).value as Uint8Array)), 'data: 1\n\n')
    assert.equal(response.headers.get('x-instance-id'), 'theirs')
    await reader.cancel()
    await until(() => closed)
  })
})

describe('the proxy plugin: clients that do not read', () => {
  it('are watched for: connections of HTTP/1.1, and streams of HTTP/2', async (t) => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    const { mock } = t.mock.method(StallGuard.prototype, 'add')
    const expected: unknown[] = []
    for (const server of [{}, { http2: true, https: pem }] as object[]) {
      const app = Fastify(server)
      app.addHook('onRequest', async ({ raw }) => void expected.push('stream' in raw ? raw.stream : raw.socket))
      app.register(proxy, { targets: [upstream.url] })
      const url = await listen(app)
      if (url.startsWith('http:')) assert.equal((await get(url)).status, 200)
      else {
        const session = connectHttp2(url, { ca: pem.cert })
        atEnd(() => session.destroy())
        await session.request({ ':path': '/' }).toArray()
      }
    }
    assert.equal(mock.callCount(), 2)
    assert.ok(mock.calls.every((call, i) => call.arguments[0] === expected[i]))
  })
})

describe('the proxy plugin: WebSockets', async () => {
  const server = createServer(echo)
  const seen: (string | undefined)[] = []
  const upstreams = new WebSocketServer({ server })
  upstreams.on('connection', (socket, request) => {
    seen.push(request.url)
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    socket.on('error', () => {})
  })
  upstreams.on('headers', (headers) => headers.push('set-cookie: up=1'))
  const target = `http://127.0.0.1:${await startListening(server)}`

  async function roundTrip(url: string, headers: Record<string, string> = {}): Promise<WebSocket> {
    const client = new WebSocket(url.replace('http', 'ws'), { headers })
    atEnd(() => client.terminate())
    await once(client, 'open')
    client.send('hello')
    assert.equal(String((await once(client, 'message'))[0]), 'hello')
    return client
  }

  it('pass the hooks of their route, and are rewritten like other requests', async () => {
    const app = Fastify()
    app.register(proxy, {
      prefix: '/ws/:channel',
      rewritePrefix: '/channels/:channel',
      targets: [`${target}/base`],
      websocket: true,
      preHandler: async (request, reply) => {
        reply.header('set-cookie', 'session=2')
        if (request.headers.authorization === undefined) return reply.code(401).send('who?')
      },
    })
    const url = await listen(app)
    const rejected = new WebSocket(`${url.replace('http', 'ws')}/ws/1`)
    const [, response] = await once(rejected, 'unexpected-response')
    assert.equal(response.statusCode, 401)
    rejected.on('error', () => {})
    rejected.terminate()
    const client = new WebSocket(`${url.replace('http', 'ws')}/ws/1/a?b=c`, { headers: { authorization: 'x' } })
    const [[upgrade]] = await Promise.all([once(client, 'upgrade'), once(client, 'open')])
    assert.deepEqual(upgrade.headers['set-cookie'], ['up=1', 'session=2'])
    assert.equal(seen.at(-1), '/base/channels/1/a?b=c')
    client.close()
  })

  it('may begin with frames that the client sends together with its upgrade', async () => {
    const url = await front({ prefix: '/ws', targets: [target], websocket: true })
    const upgrade = [
      ...['GET /ws HTTP/1.1', 'Host: x', 'Connection: Upgrade', 'Upgrade: websocket'],
      ...['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', '', ''],
    ].join('\r\n')
    // A text with the mask 0.
    const frame = `\x81\x85${'\0'.repeat(4)}early`
    const text = await raw(url, upgrade + frame, (received) => received.endsWith('early'))
    assert.ok(text.startsWith('HTTP/1.1 101 ') && text.endsWith('\r\n\r\n\x81\x05early'), text)
  })

  it('may be echoed, rejected by the upstream, or sent to a plain route', async () => {
    const [plain] = (await startUpstreams(1)) as [Upstream]
    const app = Fastify()
    app.get('/plain', async () => 'plain')
    app.register(proxy, { prefix: '/ws', targets: [target], websocket: true })
    app.register(proxy, { prefix: '/http', targets: [plain.url], websocket: true })
    const url = await listen(app)
    const client = await roundTrip(`${url}/ws`)
    client.close(1000)
    await once(client, 'close')
    for (const [path, status] of [
      ['/plain', 200],
      ['/http/x', 200],
      ['/nowhere', 404],
    ] as const) {
      const socket = new WebSocket(url.replace('http', 'ws') + path)
      socket.on('error', () => {})
      const [, response] = await once(socket, 'unexpected-response')
      assert.equal(response.statusCode, status, path)
      socket.terminate()
    }
  })

  it('live beside @fastify/websocket', async () => {
    const app = Fastify()
    app.register(websocket)
    app.register(async (scope) => {
      scope.get('/own', { websocket: true }, (socket) => socket.send('own'))
    })
    app.register(proxy, { prefix: '/ws', targets: [target], websocket: true })
    const url = await listen(app)
    const own = new WebSocket(`${url.replace('http', 'ws')}/own`)
    assert.equal(String((await once(own, 'message'))[0]), 'own')
    own.close()
    const client = await roundTrip(`${url}/ws/x`)
    client.close()
  })

  it('end when the app closes, with and without fleet', async () => {
    for (const withFleet of [false, true]) {
      const app = Fastify()
      if (withFleet) await app.register(fleet, { lifecycle: { signals: false, drainDelayMs: 0 } })
      app.register(proxy, { prefix: '/ws', targets: [target], websocket: true })
      const client = await roundTrip(`${await listen(app)}/ws`)
      await Promise.all([once(client, 'close'), app.close()])
    }
  })

  it('without traffic are closed after tunnelTimeoutMs', async () => {
    const url = await front({ prefix: '/ws', targets: [target], websocket: true, tunnelTimeoutMs: 50 })
    const client = new WebSocket(`${url.replace('http', 'ws')}/ws`)
    atEnd(() => client.terminate())
    await once(client, 'close')
  })

  it('are cancelled upstream when the client leaves before the upstream has answered', async () => {
    const silent = createServer()
    let [asked, left] = [false, false]
    silent.on('upgrade', (_, socket) => {
      asked = true
      socket.on('error', () => undefined).on('end', () => (left = true))
      socket.resume()
    })
    const url = await front({ targets: [`http://127.0.0.1:${await startListening(silent)}`], websocket: true })
    const client = new WebSocket(url.replace('http', 'ws')).on('error', () => undefined)
    await until(() => asked)
    client.terminate()
    await until(() => left, { what: 'the end of the request upstream' })
  })

  it('do not end the process when either side is reset', async () => {
    const url = await front({ prefix: '/ws', targets: [target], websocket: true, queue: { timeoutMs: 1 } })
    const client = await roundTrip(`${url}/ws`)
    for (const socket of upstreams.clients)
      (socket as never as { _socket: { resetAndDestroy(): void } })._socket.resetAndDestroy()
    await once(client, 'close')
    const second = await roundTrip(`${url}/ws`)
    ;(second as never as { _socket: { resetAndDestroy(): void } })._socket.resetAndDestroy()
    await until(() => upstreams.clients.size === 0)
    const raw = connect(Number(new URL(url).port), '127.0.0.1')
    raw.write('GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n')
    raw.resetAndDestroy()
    assert.equal((await get(`${url}/ws/x`)).status, 200)
  })
})
