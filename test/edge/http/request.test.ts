import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { Duplex } from 'node:stream'
import { describe, it } from 'node:test'
import { until } from '../../helpers/until.ts'
import { open } from '../../instance/lifecycle/sockets.ts'
import { front, get, pair } from '../front.ts'
import { head, raw, statusOf } from '../raw.ts'
import { startUpstreams } from '../upstream.ts'

describe('a request', async () => {
  const upstreams = await startUpstreams(2)
  const { url } = await front(upstreams)

  it('is distributed round robin', async () => {
    const names = new Set<string>()
    for (let i = 0; i < 4; i++) names.add(JSON.parse((await get(`${url}/a`)).text).name)
    assert.equal(names.size, 2)
  })

  it('reaches the upstream with its method, path, headers and body', async () => {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'GET', 'OPTIONS', 'QUERY'] as const) {
      const response = await get(`${url}/e/%2F?x=1&y=%20`, { method, body: 'hello', headers: { 'x-mine': 'yes' } })
      const seen = JSON.parse(response.text)
      assert.deepEqual([seen.method, seen.url, seen.body], [method, '/e/%2F?x=1&y=%20', 'hello'])
      assert.equal(seen.headers['x-mine'], 'yes')
    }
  })

  it('keeps its headers when its body is streamed', async () => {
    const { url } = await front(upstreams, { bufferBytes: 0 })
    const text = await raw(url, `${head('POST /', 'X-A: b: c', 'X-None:', 'X-Latin: caf\xe9', 'Content-Length: 2')}hi`)
    const seen = JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4))
    assert.deepEqual([seen.method, seen.body, seen.headers.host], ['POST', 'hi', 'x'])
    assert.deepEqual(
      [seen.headers['x-a'], seen.headers['x-none'], seen.headers['content-length'], seen.headers['x-forwarded-for']],
      ['b: c', '', '2', '127.0.0.1'],
    )
  })

  it('keeps its Host and gets forwarding headers', async () => {
    const seen = JSON.parse(
      (await get(url, { headers: { host: 'shop.example:81', 'x-forwarded-for': '6.6.6.6', forwarded: 'for=6' } })).text,
    )
    const { port } = new URL(url)
    assert.equal(seen.headers.host, 'shop.example:81')
    assert.equal(seen.headers.forwarded, 'for=127.0.0.1;host="shop.example:81";proto=http')
    assert.equal(seen.headers['x-forwarded-for'], '127.0.0.1')
    assert.equal(seen.headers['x-forwarded-host'], 'shop.example:81')
    assert.equal(seen.headers['x-forwarded-port'], port)
    assert.equal(seen.headers['x-forwarded-proto'], 'http')
    assert.match(seen.headers['x-request-id'], /^[\w-]{12}-[\da-z]+$/)
  })

  it('loses its hop-by-hop headers', async () => {
    const text = await raw(
      url,
      head(
        'GET /',
        'Connection: x-private, X-Also, cookie',
        'X-Private: 1',
        'X-Also: 2',
        'X-Kept: 3',
        'Cookie: a=b',
        'Cookie: c=d',
        'Keep-Alive: 5',
        'TE: trailers',
        'Proxy-Authorization: x',
        'Proxy-Connection: keep-alive',
        'Upgrade: h2c',
        'X-Fleet-Draining: 1',
      ),
    )
    const { headers } = JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4))
    for (const name of [
      'x-private',
      'x-also',
      'keep-alive',
      'te',
      'proxy-authorization',
      'proxy-connection',
      'upgrade',
      'x-fleet-draining',
    ]) {
      assert.equal(headers[name], undefined, name)
    }
    assert.equal(headers['x-kept'], '3')
    assert.equal(headers.cookie, 'a=b; c=d')
    assert.equal(headers.connection, 'keep-alive')
  })

  it('in absolute form takes its Host from the target (RFC 9112 section 3.2.2)', async () => {
    const text = await raw(url, head('GET http://other.example/p?q'))
    const seen = JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4))
    assert.deepEqual([seen.url, seen.headers.host], ['/p?q', 'other.example'])
  })

  it('for an operators’ path gets 404 in any spelling', async () => {
    for (const path of [
      '/metrics',
      '/%6detrics',
      '//metrics',
      '/x/../metrics',
      '/Metrics/',
      '/metrics;a=b',
      '/metrics?x',
      '/fleet/x',
      '/.//metrics',
      '/x%2f..%2fmetrics',
      '/health/detailed',
      '/%2e/api/v1/load-balancer/drain',
    ]) {
      const text = await raw(url, head(`GET ${path}`))
      assert.equal(statusOf(text), 404, path)
      assert.match(text, /FLEET_ERR_PATH_BLOCKED/)
    }
    for (const path of ['/fleets', '/x/metrics', '/health']) assert.equal((await get(url + path)).status, 200)
  })

  it('is accepted over HTTP/1.0', async () => {
    const text = await raw(url, 'GET / HTTP/1.0\r\n\r\n')
    assert.equal(statusOf(text), 200)
    assert.match(text, /"url":"\/"/)
  })
})

describe('a trusted proxy in front', () => {
  it('names the client only through trusted addresses', async () => {
    const { url, proxy } = await pair({
      trustProxy: ['127.0.0.0/8', '10.0.0.1'],
      policy: {
        pick: (targets, input) => {
          clients.push(input.client)
          return targets[0] as never
        },
      },
    })
    const clients: string[] = []
    const seen = async (forwarded: string) =>
      JSON.parse(
        (
          await get(url, {
            headers: {
              'x-forwarded-for': forwarded,
              'x-forwarded-proto': 'https',
              forwarded: 'for=1.2.3.4',
              'x-request-id': 'abc',
            },
          })
        ).text,
      ).headers
    const headers = await seen('6.6.6.6, 9.9.9.9, 10.0.0.1')
    assert.equal(headers['x-forwarded-for'], '6.6.6.6, 9.9.9.9, 10.0.0.1, 127.0.0.1')
    assert.equal(headers['x-forwarded-proto'], 'https')
    assert.match(headers.forwarded, /^for=1\.2\.3\.4, for=127\.0\.0\.1;/)
    assert.equal(headers['x-request-id'], 'abc')
    await seen('nonsense')
    await seen('2001:db8::1')
    assert.deepEqual(clients, ['9.9.9.9', '127.0.0.1', '2001:db8::1'])
    assert.equal(proxy.targets.length, 1)
  })

  it('must be configured as an address or network', () => {
    return assert.rejects(pair({ trustProxy: ['everybody'] }), { code: 'FLEET_ERR_OPTION_INVALID' })
  })
})

describe('Expect: 100-continue', () => {
  it('gets 100 when a target is ready for the body', async () => {
    for (const bufferBytes of [0, 65_536]) {
      const { url } = await pair({ bufferBytes })
      const request = httpRequest(url, { method: 'POST', headers: { expect: '100-continue', 'content-length': 5 } })
      request.flushHeaders()
      await once(request, 'continue')
      request.end('hello')
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      const text = (await response.toArray()).join('')
      assert.equal(JSON.parse(text).body, 'hello')
      assert.equal(JSON.parse(text).headers.expect, undefined)
    }
  })

  it('gets no 100 when the request is rejected', async () => {
    const { url } = await pair({ maxBodyBytes: 3 })
    const text = await raw(url, head('POST /', 'Expect: 100-continue', 'Content-Length: 5'))
    assert.equal(statusOf(text), 413)
  })

  it('is the only supported expectation; others get 400', async () => {
    const { url } = await pair()
    assert.equal(statusOf(await raw(url, head('POST /', 'Expect: wonders', 'Content-Length: 0'))), 400)
  })
})

describe('what is not HTTP', () => {
  it('gets no error in the middle of another response: the connection ends', async () => {
    const { port, upstream } = await pair()
    upstream.handler = (_, response) => response.writeHead(200, { 'content-length': 100 }).write('begun')
    const socket = await open(port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await until(() => socket.received().endsWith('begun'))
    socket.write('NOT HTTP\r\n\r\n')
    await until(() => socket.closed)
    assert.ok(socket.received().endsWith('begun'), socket.received())
  })

  it('gets one response, which further errors of its connection do not cut', async () => {
    const { proxy } = await pair()
    let sent = ''
    const socket = new Duplex({
      read: () => undefined,
      write: (chunk, _, done) => {
        sent += chunk
        done()
      },
    })
    const error = Object.assign(new Error('bad bytes'), { code: 'HPE_INVALID_METHOD' })
    for (let i = 0; i < 3; i++) proxy.server.emit('clientError', error, socket)
    assert.equal(sent.match(/HTTP\/1\.1 400 /g)?.length, 1)
    assert.equal(socket.destroyed, false)
    socket.destroy()
  })
})
