import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { after, describe, it } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { createServer as createTlsServer, getCACertificates, setDefaultCACertificates, type TLSSocket } from 'node:tls'
import type { Dispatcher } from 'undici'
import { WirePool } from '../../../../src/edge/http/wire/pool.ts'
import { until } from '../../../helpers/until.ts'

interface Seen {
  status: number
  headers: object
  text: string
  trailers: object
  /** Interim statuses that came first. */
  before: number[]
}
type Serve = (socket: Socket, request: string, turn: number) => void

const ok = (text: string, ...headers: string[]): string =>
  `${['HTTP/1.1 200 OK', `Content-Length: ${text.length}`, ...headers].join('\r\n')}\r\n\r\n${text}`

const file = (name: string): string =>
  readFileSync(new URL(`../../fixtures/localhost.${name}`, import.meta.url), 'utf8')
setDefaultCACertificates([...getCACertificates('default'), file('crt')])

/** A server that responds to each request with given bytes, and a pool of connections to it. */
async function pair(serve: Serve, options: object = {}) {
  const requests: string[] = []
  let connections = 0
  const sockets: Socket[] = []
  const accept = (socket: Socket): void => {
    connections++
    sockets.push(socket)
    let text = ''
    socket.on('error', () => {})
    socket.setEncoding('latin1').on('data', (piece) => {
      text += piece
      const end = text.indexOf('\r\n\r\n')
      const length = Number(/content-length: (\d+)/.exec(text)?.[1] ?? 0)
      if (end < 0 || text.length < end + 4 + length) return
      if (text.includes('transfer-encoding: chunked') && !text.endsWith('0\r\n\r\n')) return
      requests.push(text)
      serve(socket, text, requests.length)
      text = ''
    })
  }
  const server = (
    'serverName' in options
      ? createTlsServer({ key: file('key'), cert: file('crt'), ALPNProtocols: ['h2', 'http/1.1'] }, accept)
      : createServer(accept)
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const bounds = {
    connectTimeoutMs: 60_000,
    responseTimeoutMs: 60_000,
    bodyTimeoutMs: 60_000,
    keepAliveMs: 60_000,
    unsafeKeepAliveMs: 60_000,
    serverName: undefined,
  }
  const pool = new WirePool({ host: '127.0.0.1', port, maxHeaderBytes: 16_384, ...bounds, ...options })
  after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { pool, requests, sockets, server, connections: () => connections }
}

function send(
  pool: WirePool,
  request: {
    method?: string
    path?: string
    headers?: string
    body?: Buffer | AsyncIterable<Buffer> | null
    repeatable?: boolean
  } = {},
  watch: Partial<Dispatcher.DispatchHandler> = {},
): Promise<Seen> {
  const { method = 'GET', path = '/', headers = 'host: x\r\n', body = null, repeatable = true } = request
  const seen: Seen = { status: 0, headers: {}, text: '', trailers: {}, before: [] }
  return new Promise((resolve, reject) => {
    const handler: Dispatcher.DispatchHandler = {
      onResponseStart(_, status, received) {
        if (status < 200) seen.before.push(status)
        else Object.assign(seen, { status, headers: { ...received } })
      },
      onResponseData(_, chunk) {
        seen.text += chunk.toString('latin1')
      },
      onResponseEnd(_, trailers) {
        resolve({ ...seen, trailers: { ...trailers } })
      },
      onResponseError(_, error) {
        reject(error)
      },
      ...watch,
    }
    pool.dispatch({ method, path, headers, body, rejectable: false }, handler, repeatable)
  })
}

describe('a connection to an upstream', () => {
  it('is reused for requests with and without a body', async () => {
    const { pool, requests, connections } = await pair((socket) => socket.write(ok('hello')))
    assert.equal((await send(pool)).text, 'hello')
    assert.equal((await send(pool, { method: 'POST', body: Buffer.from('caf\xe9', 'latin1') })).text, 'hello')
    assert.equal((await send(pool, { method: 'PUT', body: Buffer.alloc(60_000, 120) })).text, 'hello')
    assert.equal((await send(pool, { method: 'POST' })).text, 'hello')
    assert.equal(connections(), 1)
    assert.match(requests[0] as string, /^GET \/ HTTP\/1\.1\r\nconnection: keep-alive\r\nhost: x\r\n\r\n$/)
    assert.match(requests[1] as string, /content-length: 4\r\n\r\ncaf\xe9$/)
    assert.match(requests[2] as string, /content-length: 60000\r\n\r\nx{60000}$/)
    assert.match(requests[3] as string, /content-length: 0\r\n\r\n$/)
    await pool.close()
  })

  it('reaches a server by name on any of its addresses', async () => {
    const { pool } = await pair((socket) => socket.write(ok('hello')), { host: 'localhost' })
    for (let i = 0; i < 2; i++) assert.equal((await send(pool)).text, 'hello')
    await pool.close()
    const nowhere = await pair(() => {}, { host: 'nowhere.invalid' })
    await assert.rejects(send(nowhere.pool), { syscall: 'getaddrinfo' })
    await nowhere.pool.close()
  })

  it('is opened for each concurrent request', async () => {
    const { pool, connections } = await pair((socket) => setImmediate(() => socket.write(ok('x'))))
    await Promise.all(Array.from({ length: 5 }, () => send(pool)))
    await Promise.all(Array.from({ length: 5 }, () => send(pool)))
    assert.equal(connections(), 5)
    await pool.close()
  })

  for (const [what, bytes, expected] of [
    ['with a length', ok('hello', 'X: y'), { text: 'hello', headers: { 'content-length': '5', x: 'y' } }],
    [
      'in chunks, with trailers',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n',
      { text: 'hello', trailers: { 'x-sum': '1' } },
    ],
    ['after early hints', `HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n${ok('x')}`, { before: [103], text: 'x' }],
    ['without a body', 'HTTP/1.1 204 No Content\r\n\r\n', { status: 204, text: '' }],
  ] as const) {
    it(`reads a response ${what}, in buffers of any size`, async () => {
      const { pool, connections } = await pair(async (socket, _, turn) => {
        const step = [bytes.length, 1, 7][turn - 1] ?? 1
        for (let at = 0; at < bytes.length; at += step) {
          socket.write(bytes.slice(at, at + step))
          await nextTurn()
        }
      })
      for (let i = 0; i < 3; i++) {
        const seen = await send(pool)
        for (const [key, value] of Object.entries(expected)) assert.deepEqual(seen[key as keyof Seen], value)
      }
      assert.equal(connections(), 1)
      await pool.close()
    })
  }

  it('reads a response until the connection ends, and fails when it breaks off', async () => {
    const { pool } = await pair((socket, request) => {
      if (request.startsWith('GET /close')) socket.end('HTTP/1.1 200 OK\r\n\r\nhello')
      else if (request.startsWith('GET /length')) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello')
      else if (request.startsWith('GET /chunks')) {
        socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n')
      } else if (request.startsWith('GET /head')) socket.end('HTTP/1.1 200 OK\r\nX')
      else socket.end()
    })
    assert.equal((await send(pool, { path: '/close' })).text, 'hello')
    for (const path of ['/length', '/chunks', '/head', '/nothing']) {
      await assert.rejects(send(pool, { path }), { code: 'UND_ERR_SOCKET' }, path)
    }
    await pool.close()
  })

  it('expects no body after HEAD', async () => {
    const { pool, connections } = await pair((socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'))
    for (let i = 0; i < 2; i++) assert.equal((await send(pool, { method: 'HEAD' })).text, '')
    assert.equal(connections(), 1)
    await pool.close()
  })

  it('is not reused after `Connection: close` or after excess bytes', async () => {
    for (const bytes of [
      ok('x', 'Connection: close'),
      `${ok('x')}${ok('evil')}`,
      'HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n',
      ok('x', 'Keep-Alive: timeout=1'),
    ]) {
      const { pool, connections } = await pair((socket) => socket.write(bytes))
      for (let i = 0; i < 2; i++) assert.ok(['x', ''].includes((await send(pool)).text))
      assert.equal(connections(), 2, bytes)
      await pool.close()
    }
  })

  it('is not reused when the server closed it, sent unrequested bytes, or its idle time is over', async () => {
    const { pool, connections, sockets } = await pair((socket) => socket.write(ok('x')), { keepAliveMs: 40 })
    await send(pool)
    await until(() => sockets[0]?.destroyed)
    await send(pool)
    assert.equal(connections(), 2)
    await pool.close()
    const other = await pair((socket) => socket.write(ok('x')))
    await send(other.pool)
    other.sockets[0]?.write('HTTP/1.1 408 Request Timeout\r\n\r\n')
    await until(() => other.sockets[0]?.destroyed)
    await send(other.pool)
    assert.equal(other.connections(), 2)
    await other.pool.close()
  })

  it('fails on a response that is too slow, too large, or not HTTP', async () => {
    for (const [bytes, options, expected] of [
      ['', { responseTimeoutMs: 100 }, { code: 'UND_ERR_HEADERS_TIMEOUT' }],
      ['HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx', { bodyTimeoutMs: 100 }, { code: 'UND_ERR_BODY_TIMEOUT' }],
      [`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(20_000)}`, {}, { code: 'UND_ERR_HEADERS_OVERFLOW' }],
      ['hello\r\n\r\n', {}, { name: 'HTTPParserError' }],
      ['HTTP/1.1 101 Switching Protocols\r\n\r\n', {}, { name: 'HTTPParserError' }],
    ] as const) {
      const { pool } = await pair((socket) => socket.write(bytes), options)
      await assert.rejects(send(pool), expected, bytes.slice(0, 40))
      await pool.close()
    }
  })

  it('reports whether the request was sent', async () => {
    const { pool, server } = await pair(() => {})
    server.close()
    await once(server, 'close')
    let sent = false
    const watch = {
      onRequestStart: () => {
        sent = true
      },
    }
    const refused = send(pool, {}, watch)
    await assert.rejects(refused, { code: 'ECONNREFUSED' })
    assert.equal(sent, false)
    await pool.close()
  })

  const long = (socket: Socket): void => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n')
    for (let i = 0; i < 500; i++) socket.write(Buffer.alloc(100_000))
  }
  for (const [how, options] of [
    ['', {}],
    [' over TLS', { serverName: 'localhost' }],
  ] as const)
    it(`can be paused and aborted${how}`, async () => {
      const { pool, sockets } = await pair(long, options)
      let controller: Dispatcher.DispatchController | undefined
      let received = 0
      const watch: Partial<Dispatcher.DispatchHandler> = {
        onRequestStart: (given) => {
          controller = given
        },
        onResponseData: (given, chunk) => {
          received += chunk.length
          given.pause()
        },
      }
      const response = send(pool, {}, watch)
      const ended = assert.rejects(response, { message: 'enough' })
      await until(() => received > 0)
      for (let i = 0; i < 20; i++) await nextTurn()
      assert.ok(received <= 65_536, `${received}`)
      const mark = received
      controller?.resume()
      await until(() => received > mark)
      controller?.abort(new Error('enough'))
      await ended
      await until(() => sockets[0]?.destroyed)
      await pool.close()
    })

  it('sends a stream with its length, or in chunks', async () => {
    async function* pieces(): AsyncGenerator<Buffer> {
      yield Buffer.from('caf\xe9', 'latin1')
      await nextTurn()
      yield Buffer.alloc(20, 120)
    }
    async function* none(): AsyncGenerator<Buffer> {}
    const { pool, requests, connections } = await pair((socket) => socket.write(ok('x')))
    await send(pool, { method: 'PUT', body: pieces(), headers: 'host: x\r\ncontent-length: 24\r\n' })
    await send(pool, { method: 'PUT', body: pieces() })
    await send(pool, { method: 'PUT', body: none() })
    assert.match(requests[0] as string, /content-length: 24\r\n\r\ncaf\xe9x{20}$/)
    assert.match(
      requests[1] as string,
      /\r\ntransfer-encoding: chunked\r\n\r\n4\r\ncaf\xe9\r\n14\r\nx{20}\r\n0\r\n\r\n$/,
    )
    assert.match(requests[2] as string, /\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n$/)
    assert.equal(connections(), 1)
    await pool.close()
  })

  it('reads a stream no faster than the server', async () => {
    let sent = 0
    let ended = false
    async function* endless(): AsyncGenerator<Buffer> {
      try {
        for (; ; sent++) yield Buffer.alloc(65_536)
      } finally {
        ended = true
      }
    }
    const { pool, sockets } = await pair(() => {}, { responseTimeoutMs: 300 })
    const response = assert.rejects(send(pool, { method: 'PUT', body: endless() }), { code: 'UND_ERR_HEADERS_TIMEOUT' })
    await until(() => sockets.length > 0)
    sockets[0]?.pause()
    await response
    assert.ok(sent < 1000, `${sent}`)
    await until(() => ended)
    await pool.close()
  })

  it('does not count the time that the source of a stream takes', async (t) => {
    let now = performance.now()
    t.mock.method(performance, 'now', () => now)
    const gate = Promise.withResolvers<void>()
    let waits = false
    async function* slow(): AsyncGenerator<Buffer> {
      yield Buffer.from('a')
      waits = true
      await gate.promise
    }
    const { pool } = await pair((socket) => socket.write(ok('x')), { responseTimeoutMs: 40 })
    const response = send(pool, { method: 'PUT', body: slow() })
    await until(() => waits)
    now += 1000
    // Every 10 ms the pool looks for requests that are late.
    const checked = Date.now() + 100
    await until(() => Date.now() > checked)
    gate.resolve()
    assert.equal((await response).text, 'x')
    await pool.close()
  })

  it('fails with the error of a stream', async () => {
    async function* broken(): AsyncGenerator<Buffer> {
      yield Buffer.from('a')
      throw new Error('the source is gone')
    }
    const { pool, sockets } = await pair(() => {})
    await assert.rejects(send(pool, { method: 'PUT', body: broken() }), { message: 'the source is gone' })
    await until(() => sockets[0]?.destroyed)
    await pool.close()
  })

  it('is not reused when the response came before the end of a stream', async () => {
    let ended = false
    async function* endless(): AsyncGenerator<Buffer> {
      try {
        for (;;) {
          yield Buffer.from('a')
          await nextTurn()
        }
      } finally {
        ended = true
      }
    }
    const { pool, connections, sockets } = await pair((socket) => socket.write(ok('x')))
    const early = send(pool, { method: 'PUT', body: endless() })
    await until(() => sockets.length === 1)
    sockets[0]?.write(ok('early'))
    assert.equal((await early).text, 'early')
    await until(() => ended)
    await send(pool)
    assert.equal(connections(), 2)
    await pool.close()
  })

  it('is reused for a request that must not be sent twice only after a short idle time', async () => {
    const { pool, connections, sockets } = await pair((socket) => socket.write(ok('x')), { unsafeKeepAliveMs: 0 })
    const unsafe = { method: 'POST', repeatable: false }
    await Promise.all([send(pool), send(pool)])
    assert.equal(connections(), 2)
    await send(pool)
    assert.equal(connections(), 2)
    await send(pool, unsafe)
    assert.equal(connections(), 3)
    // The new connection has replaced one of the two.
    await until(() => sockets.filter(({ destroyed }) => destroyed).length === 1)
    await pool.close()
    const fresh = await pair((socket) => socket.write(ok('x')))
    for (const request of [{}, unsafe, {}, unsafe]) await send(fresh.pool, request)
    assert.equal(fresh.connections(), 1)
    await fresh.pool.close()
  })

  it('over TLS sends the name of the server, resumes the session, and checks the certificate', async () => {
    const { pool, sockets } = await pair((socket) => socket.write(ok('x', 'Connection: close')), {
      serverName: 'localhost',
    })
    for (let i = 0; i < 2; i++) assert.equal((await send(pool)).text, 'x')
    const [first, second] = sockets as TLSSocket[]
    assert.deepEqual([first?.servername, first?.alpnProtocol], ['localhost', 'http/1.1'])
    assert.equal(second?.isSessionReused(), true)
    await pool.close()
    for (const serverName of ['shop.example', '10.1.2.3']) {
      const wrong = await pair((socket) => socket.write(ok('x')), { serverName })
      let sent = false
      const watch = {
        onRequestStart: () => {
          sent = true
        },
      }
      await assert.rejects(send(wrong.pool, {}, watch), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' }, serverName)
      assert.equal(sent, false)
      await wrong.pool.close()
    }
  })

  it('closes after its request when the pool closes', async () => {
    let response = (): void => {}
    const { pool, sockets, requests } = await pair((socket) => {
      response = () => socket.write(ok('late'))
    })
    const asked = send(pool)
    await until(() => requests.length === 1)
    const closed = pool.close()
    response()
    assert.equal((await asked).text, 'late')
    await closed
    await until(() => sockets[0]?.destroyed)
  })
})
