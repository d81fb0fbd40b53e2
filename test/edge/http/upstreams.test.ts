import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createHttp2Server, createSecureServer } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import type { TargetOptions } from '../../../src/edge/balancer/target.ts'
import { createProxy, type ProxyOptions, type ReverseProxy } from '../../../src/edge/http/server.ts'
import { until } from '../../helpers/until.ts'
import { atEnd } from '../at-end.ts'
import { get, quickProbe } from '../front.ts'
import { pem, startListening } from '../listening.ts'

const echo: RequestListener = (request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const { method, url, headers, httpVersion } = request
    if (url === '/ready') response.end('ok')
    else response.end(JSON.stringify({ method, url, headers, httpVersion, body: Buffer.concat(chunks).toString() }))
  })
}

async function front(target: TargetOptions, options: Partial<ProxyOptions> = {}): Promise<[string, ReverseProxy]> {
  const proxy = createProxy({ targets: [target], probe: quickProbe, ...options })
  atEnd(() => proxy.close())
  return [await proxy.listen(), proxy]
}

describe('a target', () => {
  it('may have a path, below which all requests go', async () => {
    const port = await startListening(createServer(echo))
    const [url] = await front({ url: `http://127.0.0.1:${port}/base/v1/` })
    assert.equal(JSON.parse((await get(`${url}/a?b=/c`)).text).url, '/base/v1/a?b=/c')
    assert.equal(JSON.parse((await get(url)).text).url, '/base/v1/')
    const balancer = new Balancer([`http://127.0.0.1:${port}/base`], { probe: quickProbe })
    const { body } = await balancer.request('/x')
    assert.equal(((await body.json()) as { url: string }).url, '/base/x')
    await balancer.close()
  })

  it('may be a Unix domain socket', async () => {
    const path = join(temporaryFolder('unix'), 'app.sock')
    const server = createServer(echo)
    await startListening(server, path)
    new WebSocketServer({ server }).on('connection', (socket) =>
      socket.on('message', (data) => socket.send(`${data}!`)),
    )
    for (const scheme of ['unix+http', 'http+unix']) {
      const [url, proxy] = await front({ url: `${scheme}://${encodeURIComponent(path)}/base` })
      assert.equal(proxy.targets[0]?.state, 'up')
      const { text } = await get(`${url}/a`, { method: 'POST', body: 'hello' })
      const { url: seen, body } = JSON.parse(text)
      assert.deepEqual([seen, body], ['/base/a', 'hello'])
      const client = new WebSocket(url.replace('http', 'ws'))
      await once(client, 'open')
      client.send('hi')
      assert.equal(String((await once(client, 'message'))[0]), 'hi!')
      client.close()
    }
  })

  it('may be a Unix domain socket with TLS', async () => {
    const path = join(temporaryFolder('unix'), 'app.sock')
    await startListening(createHttpsServer(pem, echo), path)
    const [url] = await front({ url: `unix+https://${encodeURIComponent(path)}`, ca: pem.cert })
    assert.equal((await get(`${url}/a`)).status, 200)
  })

  it('may have its own certificate authority, and is not trusted without it', async () => {
    const port = await startListening(createHttpsServer(pem, echo))
    const target = `https://localhost:${port}`
    const [trusting] = await front({ url: target, ca: [pem.cert] })
    assert.equal((await get(trusting)).status, 200)
    const [lax] = await front({ url: target, rejectUnauthorized: false })
    assert.equal((await get(lax)).status, 200)
    const [strict, proxy] = await front({ url: target }, { queue: { timeoutMs: 50 } })
    assert.equal((await get(strict)).status, 503)
    assert.equal(proxy.targets[0]?.state, 'down')
  })

  it('may require a client certificate', async () => {
    const port = await startListening(createHttpsServer({ ...pem, ca: pem.cert, requestCert: true }, echo))
    const [url] = await front({ url: `https://localhost:${port}`, ca: pem.cert, ...pem })
    assert.equal((await get(url)).status, 200)
    const [without] = await front({ url: `https://localhost:${port}`, ca: pem.cert }, { queue: { timeoutMs: 50 } })
    // With TLS 1.3 the target rejects the certificate only after the handshake.
    assert.ok((await get(without)).status > 500)
  })

  it('rejects URLs that name no server', () => {
    for (const url of [
      'unix+http://',
      'unix+http://run/app.sock',
      'http://u@h/',
      'http://h/?q',
      'ftp://h',
      'tcp://h:1/p',
    ]) {
      assert.throws(() => new Balancer([url]), { code: 'FLEET_ERR_TARGET_INVALID' }, url)
    }
  })
})

for (const scheme of ['http', 'https']) {
  describe(`an HTTP/2 target over ${scheme}`, async () => {
    const server = scheme === 'http' ? createHttp2Server() : createSecureServer(pem)
    let handler = echo
    let sessions = 0
    server.on('request', (request, response) => handler(request as never, response as never))
    server.on('session', () => sessions++)
    const port = await startListening(server)
    const target = { url: `${scheme}://localhost:${port}`, http2: true, ca: pem.cert }
    const [url, proxy] = await front(target)

    it('gets requests over HTTP/2, many over one connection', async () => {
      assert.equal(proxy.targets[0]?.state, 'up')
      const before = sessions
      const responses = await Promise.all(
        Array.from({ length: 20 }, (_, i) => get(`${url}/${i}`, { headers: { cookie: 'a=b', 'x-mine': 'yes' } })),
      )
      for (const [i, { status, text }] of responses.entries()) {
        const seen = JSON.parse(text)
        assert.deepEqual([status, seen.url, seen.httpVersion], [200, `/${i}`, '2.0'])
        assert.deepEqual([seen.headers.cookie, seen.headers['x-mine'], seen.headers.te], ['a=b', 'yes', 'trailers'])
        assert.equal(seen.headers[':authority'], new URL(url).host)
      }
      // Probes use connections of their own.
      assert.ok(sessions - before < 20)
    })

    it('gets short and streamed bodies', async () => {
      for (const length of [5, 70_000, 1_000_000]) {
        const { text } = await get(`${url}/`, { method: 'POST', body: 'x'.repeat(length) })
        const seen = JSON.parse(text)
        assert.deepEqual([seen.method, seen.body.length], ['POST', length])
      }
    })

    it('has its headers, trailers and reset responses forwarded', async () => {
      handler = (_, response) => {
        response.writeHead(201, { 'set-cookie': ['a=1', 'b=2'], 'x-one': 'y' })
        response.addTrailers({ 'x-trailer': 'z' })
        response.end('done')
      }
      const { status, headers, text } = await get(url)
      assert.deepEqual([status, headers['set-cookie'], headers['x-one'], text], [201, ['a=1', 'b=2'], 'y', 'done'])
      handler = (_, response) => {
        response.write('half')
        setTimeout(() => (response as never as { stream: { close(code: number): void } }).stream.close(2), 20)
      }
      await assert.rejects(get(url))
      handler = (request) => (request as never as { stream: { close(code: number): void } }).stream.close(2)
      assert.equal((await get(url, { method: 'POST', body: 'x' })).status, 502)
      handler = echo
    })

    it('has a POST that it refused sent again, and no other', async () => {
      let seen = 0
      handler = (request, response) => {
        const { stream } = request as never as { stream: { close(code: number): void } }
        if (request.method === 'POST' && ++seen === 1) stream.close(7)
        else echo(request, response)
      }
      assert.equal((await get(url, { method: 'POST', body: 'x' })).status, 200)
      assert.equal(seen, 2)
      handler = echo
      await until(() => proxy.targets[0]?.state === 'up')
    })

    it('may end its connection at any time, and does not delay the end of the proxy', async () => {
      const open: { destroyed: boolean; goaway(code: number): void }[] = []
      server.on('session', (session) => open.push(session))
      const [own, ending] = await front(target, { probe: { type: 'off' } })
      for (let i = 0; i < 3; i++) {
        assert.equal((await get(own)).status, 200)
        for (const session of open.splice(0)) if (!session.destroyed) session.goaway(0)
      }
      await ending.close()
      await until(() => proxy.targets[0]?.state === 'up')
    })

    it('is timed out', async () => {
      handler = () => {}
      const [slow] = await front(target, { connections: { responseTimeoutMs: 50 }, probe: { type: 'off' } })
      assert.equal((await get(slow)).status, 504)
      handler = echo
    })

    it('is used by the client-side balancer over HTTP/2 as well', async () => {
      const balancer = new Balancer([target], { probe: quickProbe })
      await balancer.ready()
      const { body } = await balancer.request('/x')
      assert.equal(((await body.json()) as { httpVersion: string }).httpVersion, '2.0')
      await balancer.close()
    })
  })
}

it('an HTTP/2 target that speaks HTTP/1.1 only is down', async () => {
  const port = await startListening(createServer(echo))
  const [, proxy] = await front({ url: `http://127.0.0.1:${port}`, http2: true })
  assert.equal(proxy.targets[0]?.state, 'down')
})
