import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2'
import { request as httpsRequest } from 'node:https'
import { after, describe, it } from 'node:test'
import { connect as connectTls, TLSSocket } from 'node:tls'
import { WebSocket, WebSocketServer } from 'ws'
import { StallGuard } from '../../../src/base/socket-bounds.ts'
import { until } from '../../helpers/until.ts'
import { pair } from '../front.ts'

const file = (name: string): string => readFileSync(new URL(`../fixtures/localhost.${name}`, import.meta.url), 'utf8')
const tls = { key: file('key'), cert: file('crt') }
const ca = tls.cert

interface Reply {
  headers: IncomingHttpHeaders & { ':status'?: number }
  text: string
  trailers: IncomingHttpHeaders
}

async function sendRequest(
  session: ClientHttp2Session,
  headers: Record<string, string | string[]>,
  body?: string | Buffer,
): Promise<Reply> {
  const stream = session.request(headers, { endStream: body === undefined })
  if (body !== undefined) stream.end(body)
  let trailers: IncomingHttpHeaders = {}
  stream.on('trailers', (received) => {
    trailers = received
  })
  const [received] = await once(stream, 'response')
  return { headers: received, text: (await stream.toArray()).join(''), trailers }
}

const session = (url: string): ClientHttp2Session => {
  const client = connect(url, { ca })
  client.on('error', () => {})
  after(() => client.destroy())
  return client
}

describe('over TLS', async () => {
  const { url, upstream, proxy } = await pair({ tls })

  it('clients that do not read are watched for above the encryption', async (t) => {
    const watched: boolean[] = []
    t.mock.method(StallGuard.prototype, 'add', (socket: unknown) => void watched.push(socket instanceof TLSSocket))
    const socket = connectTls({ port: Number(new URL(url).port), host: '127.0.0.1', ca, servername: 'localhost' })
    await once(socket, 'secureConnect')
    await until(() => watched.length > 0)
    assert.deepEqual(watched, [true])
    socket.destroy()
  })

  it('HTTP/2 sessions are closed after headersTimeoutMs without a request, and after keepAliveMs since the last', async () => {
    const { url } = await pair({ tls, headersTimeoutMs: 2_000, keepAliveMs: 50 })
    const idle = session(url)
    assert.equal((await sendRequest(idle, { ':path': '/' })).headers[':status'], 200)
    const silent = session(url)
    await until(() => idle.destroyed && silent.destroyed)
  })

  it('HTTP/2 clients learn the limits of streams and headers, and that WebSockets are accepted', async () => {
    const client = session(url)
    const [settings] = await once(client, 'remoteSettings')
    const { maxConcurrentStreams, maxHeaderListSize, enableConnectProtocol } = settings
    assert.deepEqual([maxConcurrentStreams, maxHeaderListSize, enableConnectProtocol], [128, 16_384, true])
    client.close()
  })

  it('HTTP/2 requests become HTTP/1.1 requests upstream', async () => {
    const client = session(url)
    const { headers, text } = await sendRequest(
      client,
      { ':method': 'POST', ':path': '/p?q=1', ':authority': 'shop.example', cookie: ['a=b', 'c=d'], 'x-mine': 'yes' },
      'hello',
    )
    assert.equal(headers[':status'], 200)
    const seen = JSON.parse(text)
    assert.deepEqual([seen.method, seen.url, seen.body], ['POST', '/p?q=1', 'hello'])
    assert.deepEqual(
      [seen.headers.host, seen.headers.cookie, seen.headers['x-mine']],
      ['shop.example', 'a=b; c=d', 'yes'],
    )
    assert.deepEqual([seen.headers['x-forwarded-proto'], seen.headers['x-forwarded-for']], ['https', '127.0.0.1'])
    assert.ok(!Object.keys(seen.headers).some((name) => name.startsWith(':')))
  })

  it('concurrent streams become separate requests', async () => {
    const client = session(url)
    const replies = await Promise.all(Array.from({ length: 50 }, (_, i) => sendRequest(client, { ':path': `/${i}` })))
    assert.deepEqual(
      replies.map(({ text }) => JSON.parse(text).url),
      Array.from({ length: 50 }, (_, i) => `/${i}`),
    )
  })

  it('responses keep duplicates and trailers, and lose fields that HTTP/2 forbids', async () => {
    upstream.handler = (_, response) => {
      response.writeHead(200, 'Odd', [
        'Set-Cookie',
        'a=b',
        'Set-Cookie',
        'c=d',
        'Trailer',
        'x-sum',
        'Connection',
        'close',
      ])
      response.write('x')
      response.addTrailers({ 'x-sum': '42' })
      response.end()
    }
    const { headers, trailers } = await sendRequest(session(url), { ':path': '/' })
    assert.deepEqual(headers['set-cookie'], ['a=b', 'c=d'])
    assert.equal(headers.connection, undefined)
    assert.equal(trailers['x-sum'], '42')
    upstream.handler = (request, response) => upstream.response(request, response)
  })

  it('long bodies are streamed in both directions', async () => {
    const body = Buffer.alloc(3 << 20, 120)
    const { text } = await sendRequest(session(url), { ':method': 'PUT', ':path': '/' }, body)
    assert.equal(JSON.parse(text).body.length, body.length)
  })

  it('a body must have the length that Content-Length states, streamed or not', async () => {
    for (const bufferBytes of [0, 65_536]) {
      const strict = await pair({ tls, bufferBytes })
      let complete = 0
      strict.upstream.handler = (request, response) => {
        request.resume().once('end', () => {
          complete++
          response.end()
        })
        request.on('error', () => {})
      }
      for (const [length, body] of [
        ['9', 'hello'],
        ['5', 'hello GET /evil HTTP/1.1'],
        ['0', 'hello'],
      ] as const) {
        const stream = session(strict.url).request({ ':method': 'POST', ':path': '/', 'content-length': length })
        stream.on('error', () => {}).end(body)
        let status: unknown
        stream.on('response', (headers) => {
          status = headers[':status']
        })
        stream.resume()
        await new Promise((resolve) => stream.on('close', resolve))
        assert.notEqual(status, 200, length)
      }
      await until(() => strict.proxy.targets[0]?.inflight === 0)
      assert.equal(complete, 0)
    }
  })

  it('error responses are the same as over HTTP/1.1', async () => {
    const client = session(url)
    const blocked = await sendRequest(client, { ':path': '/metrics' })
    assert.equal(blocked.headers[':status'], 404)
    assert.match(blocked.text, /FLEET_ERR_PATH_BLOCKED/)
    upstream.handler = (request) => request.socket.destroy()
    const failed = await sendRequest(client, { ':path': '/', ':method': 'POST' }, 'x')
    assert.equal(failed.headers[':status'], 502)
    upstream.handler = (request, response) => upstream.response(request, response)
  })

  it('a stream reset aborts the upstream request', async () => {
    let cancelled = false
    upstream.handler = (request) => {
      request.socket.on('close', () => {
        cancelled = true
      })
    }
    const before = upstream.seen.length
    const stream = session(url).request({ ':path': '/' })
    stream.on('error', () => {})
    await until(() => upstream.seen.length > before)
    stream.close(8)
    await until(() => cancelled && proxy.targets[0]?.inflight === 0)
    upstream.handler = (request, response) => upstream.response(request, response)
  })

  it('a WebSocket works over HTTP/2, by an extended CONNECT (RFC 8441)', async () => {
    const webSockets = new WebSocketServer({ noServer: true })
    upstream.server.on('upgrade', (incoming, socket, head) => {
      if (incoming.url === '/chat') {
        webSockets.handleUpgrade(incoming, socket, head, (peer) => peer.on('message', (text) => peer.send(`${text}!`)))
      } else if (incoming.url === '/none') socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone')
    })
    const client = session(url)
    await once(client, 'remoteSettings')
    assert.equal(client.remoteSettings.enableConnectProtocol, true)
    const open = async (path: string, protocol?: string) => {
      const headers = {
        ':method': 'CONNECT',
        ':path': path,
        ':authority': 'shop.example',
        'sec-websocket-version': '13',
      }
      const named = { ...headers, ':scheme': 'https', ':protocol': protocol }
      const stream = client.request(protocol ? named : { ':method': 'CONNECT', ':authority': 'shop.example' })
      stream.on('error', () => {})
      const [received] = await once(stream, 'response')
      return { stream, received }
    }
    const { stream, received } = await open('/chat', 'websocket')
    assert.equal(received[':status'], 200)
    assert.equal(received['sec-websocket-accept'], undefined)
    // A text frame of two bytes with a mask of zeros, and the unmasked response: RFC 6455 section 5.2.
    stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]))
    assert.deepEqual((await once(stream, 'data'))[0], Buffer.from([0x81, 3, 0x68, 0x69, 0x21]))
    assert.equal(proxy.targets[0]?.inflight, 1)
    const [peer] = webSockets.clients
    stream.close()
    await until(() => peer?.readyState === WebSocket.CLOSED && proxy.targets[0]?.inflight === 0)
    for (const [path, protocol, status] of [
      ['/none', 'websocket', 404],
      ['/metrics', 'websocket', 404],
      ['/chat', 'other', 405],
      ['/chat', undefined, 405],
    ] as const) {
      const refused = await open(path, protocol)
      assert.equal(refused.received[':status'], status, `${path} ${protocol}`)
      refused.stream.resume()
    }
    upstream.server.removeAllListeners('upgrade')
  })

  it('HTTP/1.1 and its WebSockets work too', async () => {
    const request = httpsRequest(url, { ca, agent: false }).end()
    const [response] = await once(request, 'response')
    const seen = JSON.parse((await response.toArray()).join(''))
    assert.equal(seen.headers['x-forwarded-proto'], 'https')
    const webSockets = new WebSocketServer({ noServer: true })
    upstream.server.on('upgrade', (incoming, socket, head) =>
      webSockets.handleUpgrade(incoming, socket, head, (client) => client.send('hi')),
    )
    const client = new WebSocket(url.replace('http', 'ws'), { ca })
    assert.equal(String((await once(client, 'message'))[0]), 'hi')
    client.terminate()
  })
})

describe('close() of a proxy with TLS', () => {
  it('finishes in-flight streams and sends GOAWAY', async () => {
    const { url, upstream, proxy } = await pair({ tls })
    let respond = (): void => {}
    upstream.handler = (request, response) => {
      respond = () => upstream.response(request, response)
    }
    const client = session(url)
    const reply = sendRequest(client, { ':path': '/slow' })
    await until(() => upstream.seen.length === 1)
    const goaway = once(client, 'goaway')
    const closed = proxy.close()
    await goaway
    respond()
    assert.equal((await reply).headers[':status'], 200)
    await closed
  })
})
