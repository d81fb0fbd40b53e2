import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get as httpGet, type IncomingMessage } from 'node:http'
import { describe, it } from 'node:test'
import { shortcuts } from '../../../src/base/internals/shortcuts.ts'
import { until } from '../../helpers/until.ts'
import { front, get, pair } from '../front.ts'
import { head, raw } from '../raw.ts'
import { startUpstreams } from '../upstream.ts'

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
    for (const [request, reply, expected] of [
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
        `HTTP/1.1 204 No\r\nConnection: close\r\n${date}Content-Length: 2\r\n\r\n`,
        `204 No\r\n${date}${kept}\r\n`,
      ],
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
        if (seen.url === '/last') upstream.response(seen, response)
        else seen.socket.end(reply, 'latin1')
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
    for (const respond of [
      'HTTP/1.1 200 OK\r\nTrailer: x\r\nContent-Length: 2\r\n\r\nok',
      'HTTP/1.1 204 OK\r\nTrailer: x\r\n\r\n',
    ]) {
      other.upstream.handler = (request) => request.resume().once('end', () => request.socket.end(respond))
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
