import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get as httpGet, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { shortcuts } from '../../../src/base/internals/shortcuts.ts'
import { until } from '../../helpers/until.ts'
import { front, get, pair } from '../front.ts'
import { raw, statusOf } from '../raw.ts'
import { startUpstreams } from '../upstream.ts'

const head = (request: string, ...headers: string[]): string =>
  `${[`${request} HTTP/1.1`, 'Host: x', 'Connection: close', ...headers].join('\r\n')}\r\n\r\n`

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
      const answer = await get(`${url}/e/%2F?x=1&y=%20`, { method, body: 'hello', headers: { 'x-mine': 'yes' } })
      const seen = JSON.parse(answer.text)
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

describe('a response', async () => {
  const { url, upstream } = await pair()

  it('keeps its status, reason, headers, duplicates and bytes', async () => {
    const body = Buffer.from([0, 255, 13, 10, 128])
    upstream.handler = (_, response) =>
      response
        .writeHead(299, 'Odd Reason', [
          'X-A',
          '1',
          'Set-Cookie',
          'a=b',
          'Set-Cookie',
          'c=d',
          'X-Latin',
          'caf\xe9',
          'Connection',
          'x-hop',
          'X-Hop',
          '1',
          'X-Fleet-Draining',
          '0',
        ])
        .end(body)
    const text = await raw(url, head('GET /'))
    assert.match(text, /^HTTP\/1\.1 299 Odd Reason\r\n/)
    assert.match(text, /set-cookie: a=b\r\nset-cookie: c=d\r\n/)
    assert.match(text, /x-latin: caf\xe9\r\n/)
    assert.doesNotMatch(text, /x-hop|x-fleet/)
    assert.ok(text.includes(body.toString('latin1')))
  })

  it('has no body where HTTP allows none', async () => {
    upstream.handler = (request, response) => {
      if (request.url === '/204') response.writeHead(204).end()
      else if (request.url === '/304') response.writeHead(304, { etag: '"x"' }).end()
      else response.writeHead(200, { 'content-length': 5 }).end('hello')
    }
    for (const path of ['/204', '/304']) assert.match(await raw(url, head(`GET ${path}`)), /\r\n\r\n$/)
    const text = await raw(url, head('HEAD /'))
    assert.match(text, /content-length: 5\r\n/)
    assert.match(text, /\r\n\r\n$/)
    const sockets = new Set<unknown>()
    upstream.handler = (request, response) => {
      sockets.add(request.socket)
      response.writeHead(200, { 'content-length': 5, connection: 'keep-alive' }).end()
    }
    for (let i = 0; i < 5; i++) await get(url, { method: 'HEAD' })
    assert.equal(sockets.size, 1, 'a HEAD does not cost its connection')
  })

  it('is the same on a kept-alive connection, with the keep-alive time', async () => {
    const kept = 'connection: keep-alive\r\nkeep-alive: timeout=72\r\n'
    const date = 'date: Thu, 01 Jan 1970 00:00:00 GMT\r\n'
    // Node writes this header last.
    const chunked = shortcuts.plainHead
      ? `transfer-encoding: chunked\r\n${kept}`
      : `${kept}Transfer-Encoding: chunked\r\n`
    for (const [request, answer, expected] of [
      [
        'GET /',
        `HTTP/1.1 200\r\nX-A:1 \r\nConnection: close\r\n${date}Set-Cookie: a\r\nset-cookie: b\r\nContent-Length: 2\r\nKeep-Alive: x\r\n\r\nok`,
        `200 OK\r\nx-a: 1\r\n${date}set-cookie: a\r\nset-cookie: b\r\ncontent-length: 2\r\n${kept}\r\nok`,
      ],
      [
        'HEAD /',
        `HTTP/1.1 201 X\r\nConnection: close\r\n${date}Content-Length: 2\r\n\r\n`,
        `201 X\r\n${date}content-length: 2\r\n${kept}\r\n`,
      ],
      ['GET /', `HTTP/1.1 204 No\r\nConnection: close\r\n${date}\r\n`, `204 No\r\n${date}${kept}\r\n`],
      [
        'GET /',
        `HTTP/1.1 304 Not\r\nConnection: close\r\n${date}Content-Length: 9\r\n\r\n`,
        `304 Not\r\n${date}content-length: 9\r\n${kept}\r\n`,
      ],
      [
        'GET /',
        `HTTP/1.1 200 OK\r\nConnection: close\r\n${date}Trailer: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: 1\r\n\r\n`,
        `200 OK\r\n${date}trailer: x\r\n${chunked}\r\n1\r\na\r\n0\r\nx: 1\r\n\r\n`,
      ],
      [
        'GET /',
        `HTTP/1.1 200 OK\r\n${date}Connection: x-hop, close\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n`,
        `200 OK\r\n${date}content-length: 0\r\n${kept}\r\n`,
      ],
    ] as const) {
      upstream.handler = (seen, response) => {
        if (seen.url === '/last') upstream.answer(seen, response)
        else seen.socket.end(answer, 'latin1')
      }
      const text = await raw(url, [`${request} HTTP/1.1\r\nHost: x\r\n\r\n`, head('GET /last')])
      const first = text.slice(0, text.lastIndexOf('HTTP/1.1 '))
      assert.equal(
        first.replace('Connection: keep-alive\r\nKeep-Alive:', 'connection: keep-alive\r\nkeep-alive:'),
        `HTTP/1.1 ${expected}`,
      )
      assert.match(text.slice(first.length), /^HTTP\/1\.1 200 (?:.*\r\n)*connection: close\r\n/i)
    }
  })

  it('has a date', async () => {
    upstream.handler = (request) => void request.socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n')
    const { headers } = await get(url)
    assert.ok(Math.abs(Date.parse(String(headers.date)) - Date.now()) < 60_000)
  })

  it('is forwarded although it announces trailers that it cannot have', async () => {
    const other = await pair({ bufferBytes: 0 })
    for (const answer of [
      'HTTP/1.1 200 OK\r\nTrailer: x\r\nContent-Length: 2\r\n\r\nok',
      'HTTP/1.1 204 OK\r\nTrailer: x\r\n\r\n',
    ]) {
      other.upstream.handler = (request) => request.resume().once('end', () => request.socket.end(answer))
      for (const request of [head('GET /'), 'GET / HTTP/1.0\r\n\r\n', `${head('POST /', 'Content-Length: 1')}x`]) {
        assert.match(await raw(other.url, request), /^HTTP\/1\.1 20[04] OK\r\n(?:.+\r\n)*\r\n(?:ok)?$/, request)
      }
    }
  })

  it('keeps its trailers', async () => {
    upstream.handler = (_, response) => {
      response.writeHead(200, { trailer: 'x-sum' })
      response.write('body')
      response.addTrailers({ 'x-sum': '42' })
      response.end()
    }
    assert.match(await raw(url, head('GET /')), /4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n$/)
  })

  it('is preceded by early hints', async () => {
    upstream.handler = (_, response) => {
      response.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' })
      response.end('x')
    }
    const text = await raw(url, head('GET /'))
    assert.match(
      text,
      /^HTTP\/1\.1 103 Early Hints\r\nlink: <\/style\.css>; rel=preload; as=style\r\n\r\nHTTP\/1\.1 200/i,
    )
  })

  it('is streamed: headers at once, then each event', async () => {
    let send: (text: string) => void = () => {}
    let gone = false
    upstream.handler = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
      send = (text) => response.write(text)
      response.on('close', () => {
        gone = true
      })
    }
    const request = httpGet(url)
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    response.setEncoding('utf8')
    for (const text of ['data: 1\n\n', 'data: 2\n\n']) {
      send(text)
      assert.deepEqual(await once(response, 'data'), [text])
    }
    request.destroy()
    await until(() => gone, { what: 'the upstream hears that the client has left' })
  })

  it('looks incomplete to the client when it breaks off', async () => {
    upstream.handler = (_, response) => {
      response.writeHead(200, { 'content-length': 100 })
      response.write('half')
      setImmediate(() => response.destroy())
    }
    await assert.rejects(get(url))
    upstream.handler = (_, response) => {
      response.writeHead(200)
      response.write('half')
      setImmediate(() => response.destroy())
    }
    await assert.rejects(get(url))
  })
})

describe('back-pressure', () => {
  it('pauses the upstream while the client does not read', async () => {
    const { url, upstream } = await pair()
    let sent = 0
    const total = 200
    upstream.handler = (_, response) => {
      const chunk = Buffer.alloc(1 << 20)
      const pump = (): void => {
        while (sent < total) {
          sent++
          if (!response.write(chunk)) return void response.once('drain', pump)
        }
        response.end()
      }
      pump()
    }
    const request = httpGet(url)
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    response.once('readable', () => {})
    let before = -1
    await until(() => {
      const still = sent === before
      before = sent
      return still && sent > 0
    })
    assert.ok(sent < total, `${sent} MiB went into buffers`)
    let length = 0
    for await (const chunk of response) length += chunk.length
    assert.equal(length, total << 20)
  })

  it('pauses the client while the upstream does not read', async () => {
    const { url, upstream } = await pair()
    let resume = (): void => {}
    let received = 0
    upstream.handler = (request, response) => {
      resume = () => {
        request.on('data', (chunk) => {
          received += chunk.length
        })
        request.on('end', () => response.end('done'))
      }
    }
    const request = httpRequest(url, { method: 'POST' })
    const chunk = Buffer.alloc(1 << 20)
    let sent = 0
    const pump = (): void => {
      while (sent < 200) {
        sent++
        if (!request.write(chunk)) return
      }
    }
    request.on('drain', pump)
    pump()
    await until(() => upstream.seen.length === 1)
    let before = -1
    await until(() => {
      const still = sent === before
      before = sent
      return still && request.writableNeedDrain
    })
    assert.ok(sent < 200, `${sent} MiB went into buffers`)
    request.off('drain', pump)
    resume()
    request.end()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    response.resume()
    await once(response, 'end')
    assert.ok(received >= sent << 20)
  })

  it('disconnects a client that never reads', async () => {
    const { url, upstream, proxy } = await pair({ sendTimeoutMs: 100 })
    let cut = false
    upstream.handler = (_, response) => {
      const chunk = Buffer.alloc(1 << 20)
      const pump = (): void => {
        if (!response.destroyed && response.write(chunk)) setImmediate(pump)
      }
      response.on('drain', pump).on('close', () => {
        cut = true
      })
      pump()
    }
    const socket = connect(Number(new URL(url).port), '127.0.0.1').pause()
    socket.on('error', () => {})
    socket.write(head('GET /'))
    await until(() => cut)
    await until(() => proxy.targets[0]?.inflight === 0)
    socket.destroy()
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

describe('a client that disconnects', () => {
  it('aborts its request at any stage', async () => {
    const { url, upstream, proxy } = await pair()
    let cancelled = 0
    upstream.handler = (request) => request.socket.on('close', () => cancelled++)
    for (const request of [head('GET /'), `${head('POST /', 'Content-Length: 100000')}some`]) {
      const before = upstream.seen.length
      const socket = connect(Number(new URL(url).port), '127.0.0.1')
      socket.write(request)
      await until(() => upstream.seen.length > before)
      socket.destroy()
      await until(() => cancelled === upstream.seen.length && proxy.targets[0]?.inflight === 0)
    }
    assert.equal(proxy.targets[0]?.failed, 0)
  })

  it('frees its place in the queue', async () => {
    const [upstream] = await startUpstreams(1)
    const { url, proxy } = await front([], { targets: [{ url: upstream?.url ?? '', maxConnections: 1 }] })
    if (upstream) upstream.handler = () => {}
    const sockets = [0, 1].map(() => connect(Number(new URL(url).port), '127.0.0.1'))
    for (const socket of sockets) socket.write(head('GET /'))
    await until(() => upstream?.seen.length === 1)
    sockets[1]?.destroy()
    sockets[0]?.destroy()
    await until(() => proxy.targets[0]?.inflight === 0)
    assert.equal(upstream?.seen.length, 1)
  })
})

describe('limits', () => {
  it('on headers, bodies and time respond 431, 413 and 408', async () => {
    const { url, upstream } = await pair({
      maxHeaderBytes: 2048,
      maxBodyBytes: 100_000,
      bufferBytes: 1000,
    })
    const page = (text: string): [number, string] => [
      statusOf(text),
      JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)).code,
    ]
    assert.deepEqual(page(await raw(url, head('GET /', `X: ${'x'.repeat(3000)}`))), [
      431,
      'FLEET_ERR_HEADERS_TOO_LARGE',
    ])
    assert.deepEqual(page(await raw(url, head('POST /', 'Content-Length: 100001'))), [413, 'FLEET_ERR_BODY_TOO_LARGE'])
    const hasty = await pair({ headersTimeoutMs: 200 })
    assert.deepEqual(page(await raw(hasty.url, 'GET / HTTP/1.1\r\nHost: x\r\n')), [408, 'FLEET_ERR_REQUEST_TIMEOUT'])
    assert.equal(upstream.seen.length + hasty.upstream.seen.length, 0)
    const chunks = ['1F4\r\n', 'x'.repeat(500), '\r\n'].join('').repeat(250)
    assert.deepEqual(page(await raw(url, [head('POST /', 'Transfer-Encoding: chunked'), chunks])), [
      413,
      'FLEET_ERR_BODY_TOO_LARGE',
    ])
  })

  it('let the client read the response while it is still sending', async () => {
    const { url } = await pair({ maxBodyBytes: 10 })
    const body = 'x'.repeat(3_000_000)
    for (let i = 0; i < 5; i++) {
      const text = await raw(url, [head('POST /', `Content-Length: ${body.length}`), body])
      assert.match(text, /FLEET_ERR_BODY_TOO_LARGE/)
    }
  })

  it('forward a response that precedes the end of the request', async () => {
    const { url, upstream } = await pair()
    upstream.handler = (_, response) => response.writeHead(401).end('no')
    const body = 'x'.repeat(3_000_000)
    const text = await raw(url, [head('POST /', `Content-Length: ${body.length}`), body])
    assert.equal(statusOf(text), 401)
  })
})

describe('an error page', () => {
  it('is JSON or HTML by Accept, and exposes no upstream details', async () => {
    const { url, upstream } = await pair()
    upstream.handler = (request) => request.socket.destroy()
    for (const [accept, type] of [
      [undefined, 'application/json; charset=utf-8'],
      ['*/*', 'application/json; charset=utf-8'],
      ['text/html,application/xhtml+xml,*/*;q=0.8', 'text/html; charset=utf-8'],
      ['application/json, text/html;q=0.5', 'application/json; charset=utf-8'],
    ]) {
      const { status, headers, text } = await get(url, { method: 'POST', body: 'x', headers: accept ? { accept } : {} })
      assert.equal(status, 502)
      assert.equal(headers['content-type'], type)
      assert.match(text, /FLEET_ERR_UPSTREAM_FAILED/)
      assert.doesNotMatch(text, /127\.0\.0\.1|socket|ECONN|UND_/)
    }
  })

  it('is 504 for a slow upstream and 503 without a target', async () => {
    const slow = await pair({ connections: { responseTimeoutMs: 100 } })
    slow.upstream.handler = () => {}
    assert.equal((await get(slow.url, { method: 'POST', body: 'x' })).status, 504)
    const [gone] = await startUpstreams(1)
    const none = await front([gone as never], { queue: { timeoutMs: 0 } })
    gone?.kill()
    const { status, headers, text } = await get(none.url)
    assert.equal(status, 503)
    assert.equal(headers['retry-after'], '1')
    assert.match(text, /FLEET_ERR_NO_TARGET/)
  })
})

describe('close()', () => {
  it('finishes in-flight requests, sends Connection: close, and accepts no new connections', async () => {
    const { url, upstream, proxy } = await pair()
    let answer = (): void => {}
    upstream.handler = (request, response) => {
      answer = () => upstream.answer(request, response)
    }
    const inFlight = get(`${url}/slow`)
    await until(() => upstream.seen.length === 1)
    const closed = proxy.close()
    await assert.rejects(get(`${url}/new`, { dispatcher: undefined, headers: { connection: 'close' } }))
    answer()
    const { status, headers } = await inFlight
    assert.deepEqual([status, headers.connection], [200, 'close'])
    await closed
    assert.equal(proxy.close(), proxy.close())
  })

  it('cuts requests at the deadline', async () => {
    const { url, upstream, proxy } = await pair({ shutdownTimeoutMs: 100 })
    upstream.handler = () => {}
    const inFlight = get(url)
    await until(() => upstream.seen.length === 1)
    await Promise.all([proxy.close(), assert.rejects(inFlight)])
  })
})

describe('rolling replacement', () => {
  for (const policy of ['round-robin', 'least-connections', 'least-response-time', 'ip-hash', 'prequal'] as const) {
    it(`of all targets under load loses nothing and repeats no POST (${policy})`, async () => {
      const upstreams = await startUpstreams(3)
      const { url, proxy } = await front(upstreams, { policy })
      const failures: string[] = []
      const executed = new Map<string, number>()
      for (const upstream of upstreams) {
        upstream.handler = (req, res) => {
          if (req.method === 'POST') executed.set(req.url ?? '', (executed.get(req.url ?? '') ?? 0) + 1)
          upstream.answer(req, res)
        }
      }
      let rolling = true
      let sent = 0
      const client = async (): Promise<void> => {
        while (rolling) {
          const id = sent++
          const method = id % 2 ? 'POST' : 'GET'
          try {
            const { status, text } = await get(`${url}/r/${id}`, { method, body: method === 'POST' ? 'x' : undefined })
            if (status !== 200) failures.push(`${method} ${status} ${text}`)
          } catch (error) {
            failures.push(`${method} ${error}`)
          }
        }
      }
      const clients = Array.from({ length: 6 }, client)
      for (const upstream of upstreams) {
        await upstream.leave()
        await upstream.start()
        const mark = sent
        await until(() => sent > mark + 100, { what: 'requests during the roll' })
        await until(() => proxy.targets.every((t) => t.state === 'up'), { what: 'all targets up' })
      }
      rolling = false
      await Promise.all(clients)
      assert.deepEqual(failures, [])
      assert.ok(executed.size > 100)
      assert.ok([...executed.values()].every((times) => times === 1))
    })
  }
})
