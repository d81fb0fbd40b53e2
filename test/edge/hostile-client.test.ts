import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { Agent, request } from 'undici'
import {
  block,
  flags,
  frame,
  frames,
  type Place,
  patienceMs,
  play,
  preface,
  type Script,
  statusOverHttp2,
  Victim,
} from '../helpers/hostile.ts'
import { until } from '../helpers/until.ts'

const ca = readFileSync(new URL('fixtures/localhost.crt', import.meta.url), 'utf8')

/** The upstream's open connections and the requests that it received. */
const upstream = { slow: 0, later: 0, mostLater: 0, tunnels: new Set<Socket>() }
const sockets = new Set<Socket>()
const server = createServer((incoming, response) => {
  incoming.resume()
  if (incoming.url === '/slow') {
    upstream.slow++
    response.on('close', () => upstream.slow--)
  } else if (incoming.url === '/later') {
    upstream.mostLater = Math.max(upstream.mostLater, ++upstream.later)
    setTimeout(() => response.end('ok'), 300)
    response.on('close', () => upstream.later--)
  } else if (incoming.url === '/big') {
    response.writeHead(200)
    const piece = Buffer.alloc(65_536)
    const more = (): void => {
      while (!response.destroyed && response.write(piece));
      response.once('drain', more)
    }
    more()
  } else response.end('ok')
})
server.on('upgrade', (incoming, socket: Socket) => {
  socket.on('error', () => {})
  if (incoming.url === '/never') return
  upstream.tunnels.add(socket)
  // It does not close its own side, because the test expects the proxy to do so.
  for (const event of ['end', 'close']) socket.on(event, () => upstream.tunnels.delete(socket))
  sockets.add(socket)
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello')
  if (incoming.url === '/leaves') socket.resume().end('goodbye')
  // Like a server that does not read, so the end of the other side goes unnoticed.
  else if (incoming.url === '/chatty') {
    const more = (): void => {
      while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
      socket.once('drain', more)
    }
    more()
  } else socket.resume()
})

let victim: Victim
let ports: { plain: number; secure: number; tcp: number; admin: number }
const agent = new Agent({ connect: { ca, servername: 'localhost' }, pipelining: 0 })

/** An honest client gets its response from every listener, at any time: hostile clients may keep the process busy. */
async function legal(): Promise<void> {
  await until(
    async () => {
      await ask().catch((error) => {
        victim.lives()
        throw error
      })
      return true
    },
    { timeoutMs: 30_000, what: 'a response on every face' },
  )
}

async function ask(): Promise<void> {
  const urls = [
    `http://127.0.0.1:${ports.plain}/`,
    `https://127.0.0.1:${ports.secure}/`,
    `http://127.0.0.1:${ports.tcp}/`,
    `http://127.0.0.1:${ports.admin}/live`,
  ]
  for (const url of urls) {
    const { statusCode, body } = await request(url, {
      dispatcher: agent,
      headersTimeout: patienceMs,
      bodyTimeout: patienceMs,
    })
    await body.dump()
    assert.equal(statusCode, 200, url)
  }
  const lookup = (_: unknown, __: unknown, done: (...found: unknown[]) => void): void =>
    done(null, [{ address: '127.0.0.1', family: 4 }], 4)
  assert.equal(await statusOverHttp2(`https://localhost:${ports.secure}`, { ca, lookup } as never), 200)
}

before(async () => {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  victim = new Victim(new URL('./fixtures/proxies.ts', import.meta.url), {
    env: { UPSTREAM: `http://127.0.0.1:${port}` },
  })
  const [, text] = await victim.app.waitFor(/ports (\{.*\})/)
  ports = JSON.parse(text as string)
  await legal()
  await victim.rest()
})
after(async () => {
  await agent.destroy()
  server.close().closeAllConnections()
  for (const socket of sockets) socket.destroy()
})

const head = (first: string, ...lines: string[]): string =>
  `${[first, 'Host: localhost', ...lines].join('\r\n')}\r\n\r\n`
const upgrade = (path: string): string => head(`GET ${path} HTTP/1.1`, 'Connection: upgrade', 'Upgrade: websocket')
const chunked = head('POST / HTTP/1.1', 'Transfer-Encoding: chunked')
const many = (count: number, line: (i: number) => string): string[] => Array.from({ length: count }, (_, i) => line(i))

/** For HTTP/1.1, with and without TLS. Each ends with the server closing the connection, unless the script closes it. */
const http1: Record<string, Script> = {
  'resets after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), after: /405/, acts: 'reset' },
  'resets with CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), acts: 'reset' },
  'stays after a refused CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), gets: /^HTTP\/1\.1 405 / },
  'stays after a refused upgrade': { bytes: upgrade('/metrics'), gets: /^HTTP\/1\.1 404 / },
  'sends on after a refused upgrade': { bytes: upgrade('/metrics'), drip: 'x'.repeat(1000), gets: /^HTTP\/1\.1 404 / },
  'sends CONNECT as HTTP/2.0': { bytes: head('CONNECT localhost:443 HTTP/2.0'), gets: /^HTTP\/1\.1 505 / },
  'sends GET as HTTP/2.0': { bytes: head('GET / HTTP/2.0'), gets: /^HTTP\/1\.1 505 / },
  'sends an upgrade as HTTP/2.0': { bytes: upgrade('/').replace('HTTP/1.1', 'HTTP/2.0'), gets: /^HTTP\/1\.1 505 / },
  'sends HTTP/1.2': { bytes: head('GET / HTTP/1.2'), gets: /^HTTP\/1\.1 505 / },
  'sends HTTP/3.0': { bytes: head('GET / HTTP/3.0'), gets: /^HTTP\/1\.1 505 / },
  'sends the preface of HTTP/2': { bytes: preface(), gets: /^HTTP\/1\.1 505 / },
  'ends lines with LF': { bytes: 'GET / HTTP/1.1\nHost: x\n\n', gets: /^HTTP\/1\.1 400 / },
  'sends noise': { bytes: Buffer.from('\x16\x03\x01\x00\xff\xfe'.repeat(9), 'latin1'), gets: /^HTTP\/1\.1 400 / },
  'sends noise and stays': { bytes: 'noise\r\n', drip: 'x'.repeat(1000), gets: /^HTTP\/1\.1 400 / },
  'sends nothing': { gets: /^HTTP\/1\.1 408 / },
  'drips a request line': { drip: 'G', gets: /^HTTP\/1\.1 4/ },
  'drips header lines': { bytes: 'GET / HTTP/1.1\r\nHost: x\r\n', drip: 'X: y\r\n', gets: /^HTTP\/1\.1 408 / },
  'drips a short body': {
    bytes: head('POST / HTTP/1.1', 'Content-Length: 10000'),
    drip: 'x',
    gets: /^HTTP\/1\.1 408 /,
  },
  'drips a long body': { bytes: head('POST / HTTP/1.1', 'Content-Length: 9000000000'), drip: 'x' },
  'drips chunks': { bytes: chunked, drip: '1\r\nx\r\n' },
  'stops within a chunk': { bytes: `${chunked}5\r\nab` },
  'waits after Expect': {
    bytes: head('POST / HTTP/1.1', 'Content-Length: 5', 'Expect: 100-continue'),
    gets: /^HTTP\/1\.1 100 /,
  },
  'resets within headers': { bytes: 'GET / HTTP/1.1\r\nHo', acts: 'reset' },
  'resets within a body': { bytes: head('POST / HTTP/1.1', 'Content-Length: 10'), acts: 'reset' },
  'resets within a chunk': { bytes: `${chunked}5\r\nab`, acts: 'reset' },
  'resets within a response': { bytes: head('GET /big HTTP/1.1'), after: /200/, acts: 'reset' },
  'resets while it waits': { bytes: head('GET /slow HTTP/1.1'), acts: 'reset' },
  'sends half a request and ends': { bytes: 'GET / HTTP/1.1\r\n', acts: 'end', gets: /^HTTP\/1\.1 400 / },
  'sends endless trailers': { bytes: `${chunked}0\r\n${'X-Trailer: aaaaaaaaaaaaaaaaaaaa\r\n'.repeat(1000)}` },
  'sends an endless chunk extension': { bytes: `${chunked}1;${'x'.repeat(20_000)}`, gets: /HTTP\/1\.1 413 / },
  'sends a header of 20 KB': { bytes: head('GET / HTTP/1.1', `X: ${'y'.repeat(20_000)}`), gets: /^HTTP\/1\.1 431 / },
  'sends 1,000 header fields': {
    bytes: head('GET / HTTP/1.1', ...many(1000, (i) => `x${i}:`)),
    gets: /^HTTP\/1\.1 431 /,
  },
  'sends 129 header fields': { bytes: head('GET / HTTP/1.1', ...many(128, (i) => `x${i}:`)), gets: /^HTTP\/1\.1 431 / },
  'pipelines without reading': { bytes: '', drip: head('GET / HTTP/1.1').repeat(500), deaf: true },
  'never reads a response': { bytes: head('GET /big HTTP/1.1'), drip: '\r\n', deaf: true },
  'never reads a tunnel': { bytes: upgrade('/chatty'), drip: 'x', deaf: true },
  'leaves a tunnel alone': { bytes: upgrade('/'), gets: /101 .*hello$/s },
  'resets a tunnel': { bytes: upgrade('/'), after: /hello/, acts: 'reset' },
  'ends its side of a tunnel': { bytes: upgrade('/'), after: /hello/, acts: 'end' },
  'reads a tunnel whose other side has ended': { bytes: upgrade('/leaves'), drip: 'x', gets: /hellogoodbye$/ },
  'ends while its upgrade is on the way': { bytes: upgrade('/never'), acts: 'end' },
  'resets while its upgrade is on the way': { bytes: upgrade('/never'), acts: 'reset' },
}

const get = (stream: number, path = '/'): Buffer =>
  frame(frames.headers, flags.endStream | flags.endHeaders, stream, block('GET', path))
const word = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
const times = (count: number, make: (i: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)))
const odd = (i: number): number => 2 * i + 1
const connectBlock = block('CONNECT', '/', [[':protocol', 'websocket']])
const noWindow = preface({ 4: 0 })

/** For HTTP/2. */
const http2: Record<string, Script> = {
  'sends no preface': {},
  'sends a preface and nothing else': { bytes: preface() },
  'sends something else than a preface': { bytes: head('GET / HTTP/1.1') },
  'only answers pings': { bytes: preface(), drip: frame(frames.ping, 0, 0, Buffer.alloc(8)), everyMs: 100 },
  'stays idle after a request': { bytes: Buffer.concat([preface(), get(1)]) },
  'does not end its headers': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endStream, 1, block('GET', '/'))]),
  },
  'floods with CONTINUATION': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endStream, 1, block('GET', '/'))]),
    drip: times(200, (i) => frame(frames.continuation, 0, 1, block('GET', `/${i}`).subarray(0, 40))),
  },
  'floods with PING': {
    bytes: preface(),
    drip: times(2000, () => frame(frames.ping, 0, 0, Buffer.alloc(8))),
    everyMs: 2,
  },
  'floods with PING and does not read': {
    bytes: preface(),
    drip: times(2000, () => frame(frames.ping, 0, 0, Buffer.alloc(8))),
    everyMs: 2,
    deaf: true,
  },
  'floods with SETTINGS': { bytes: preface(), drip: times(2000, () => frame(frames.settings, 0, 0)), everyMs: 2 },
  'floods with PRIORITY': {
    bytes: preface(),
    drip: times(2000, () => frame(frames.priority, 0, 1, Buffer.from([0, 0, 0, 0, 16]))),
    everyMs: 2,
  },
  'floods with WINDOW_UPDATE': {
    bytes: preface(),
    drip: times(2000, () => frame(frames.window, 0, 0, word(1))),
    everyMs: 2,
  },
  'floods with empty DATA': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, block('POST', '/slow'))]),
    drip: times(2000, () => frame(frames.data, 0, 1)),
    everyMs: 2,
  },
  'resets its requests at once': {
    bytes: Buffer.concat([
      preface(),
      times(3000, (i) => Buffer.concat([get(odd(i), '/slow'), frame(frames.reset, 0, odd(i), word(8))])),
    ]),
  },
  'opens streams without end': {
    bytes: Buffer.concat([preface(), times(1000, (i) => get(odd(i), '/slow'))]),
    drip: frame(frames.goaway, 0, 0, Buffer.alloc(8)),
    acts: 'reset',
    after: /./,
  },
  'does not finish an upload': {
    bytes: Buffer.concat([
      preface(),
      frame(frames.headers, flags.endHeaders, 1, block('POST', '/', [['content-length', '10']])),
    ]),
  },
  'drips a streamed upload': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, block('POST', '/'))]),
    drip: frame(frames.data, 0, 1, Buffer.from('x')),
  },
  'drips an upload to a target that reads slowly': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, block('POST', '/slow'))]),
    drip: frame(frames.data, 0, 1, Buffer.from('x')),
  },
  'sends a body with GET and never ends it': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, block('GET', '/'))]),
  },
  'gives no window for a short response': { bytes: Buffer.concat([noWindow, get(1)]) },
  'gives no window for a long response': { bytes: Buffer.concat([noWindow, get(1, '/big')]) },
  'gives no window for an error page': { bytes: Buffer.concat([noWindow, get(1, '/metrics')]) },
  'gives no window, and pings': {
    bytes: Buffer.concat([noWindow, get(1, '/big')]),
    drip: frame(frames.ping, 0, 0, Buffer.alloc(8)),
    everyMs: 100,
  },
  'never reads a long response': {
    bytes: Buffer.concat([preface({ 4: 0x7fffffff }), frame(frames.window, 0, 0, word(0x7fff0000)), get(1, '/big')]),
    drip: frame(frames.ping, 0, 0, Buffer.alloc(8)),
    deaf: true,
  },
  'sends 1,000 header fields': {
    bytes: Buffer.concat([
      preface(),
      frame(
        frames.headers,
        5,
        1,
        block(
          'GET',
          '/',
          many(1000, (i) => `x${i}`).map((name) => [name, '']),
        ),
      ),
    ]),
  },
  'sends 130 header fields': {
    bytes: Buffer.concat([
      preface(),
      frame(
        frames.headers,
        5,
        1,
        block(
          'GET',
          '/',
          many(130, (i) => `x${i}`).map((name) => [name, '']),
        ),
      ),
    ]),
  },
  'sends DATA on a stream that it never opened': {
    bytes: Buffer.concat([preface(), frame(frames.data, 0, 1, Buffer.from('x'))]),
  },
  'sends a frame that is too long': {
    bytes: Buffer.concat([preface(), frame(frames.data, 0, 1, Buffer.alloc(20_000))]),
  },
  'sends a window that overflows': {
    bytes: Buffer.concat([
      preface(),
      frame(frames.window, 0, 0, word(0x7fffffff)),
      frame(frames.window, 0, 0, word(0x7fffffff)),
    ]),
  },
  'sends broken HPACK': { bytes: Buffer.concat([preface(), frame(frames.headers, 5, 1, Buffer.alloc(20, 0xff))]) },
  'leaves a tunnel alone': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, connectBlock)]),
  },
  'never reads a tunnel': {
    bytes: Buffer.concat([
      noWindow,
      frame(frames.headers, flags.endHeaders, 1, block('CONNECT', '/chatty', [[':protocol', 'websocket']])),
    ]),
  },
  'ends its side of a tunnel': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, connectBlock)]),
    after: /hello/,
    acts: 'end',
  },
  'resets a tunnel': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, connectBlock)]),
    after: /hello/,
    acts: 'reset',
  },
  'resets while it waits': { bytes: Buffer.concat([preface(), get(1, '/slow')]), acts: 'reset', after: /./ },
  'stays after a refused CONNECT': {
    bytes: Buffer.concat([
      preface(),
      frame(frames.headers, flags.endHeaders, 1, block('CONNECT', '/', [[':protocol', 'other']])),
    ]),
  },
}

/** For the listeners that are not HTTP proxies. */
const others: Record<'tcp' | 'admin', Record<string, Script>> = {
  tcp: {
    'sends nothing': {},
    'resets at once': { acts: 'reset' },
    'sends half a request': { bytes: 'GET / HTTP/1.1\r\n' },
    'ends its side': { bytes: 'GET / HTTP/1.1\r\n', acts: 'end' },
  },
  admin: {
    'sends nothing': { gets: /^HTTP\/1\.1 408 / },
    'resets after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), acts: 'reset' },
    'resets with an upgrade': { bytes: upgrade('/live'), acts: 'reset' },
    'stays after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1') },
    'sends a body that is not wanted': {
      bytes: head('POST /targets/x/drain HTTP/1.1', 'Content-Type: application/json', 'Content-Length: 1000000'),
      drip: 'x',
      gets: /^HTTP\/1\.1 404 .*\r\nConnection: close\r\n/s,
    },
    'drips header lines': { bytes: 'GET / HTTP/1.1\r\n', drip: 'X: y\r\n' },
    'sends a header of 20 KB': {
      bytes: head('GET /live HTTP/1.1', `X: ${'y'.repeat(20_000)}`),
      gets: /^HTTP\/1\.1 431 /,
    },
    'stays idle after a request': { bytes: head('GET /live HTTP/1.1'), gets: /^HTTP\/1\.1 200 / },
  },
}

describe('a hostile client', { concurrency: 24 }, () => {
  const plays = (name: string, place: () => Place, scripts: Record<string, Script>): void => {
    for (const [title, script] of Object.entries(scripts)) {
      it(`on ${name} ${title}: the connection ends, and others are served`, async () => {
        await play(place(), script)
        await legal()
      })
    }
  }
  plays('HTTP/1.1', () => ({ port: ports.plain }), http1)
  plays('HTTPS/1.1', () => ({ port: ports.secure, ca }), http1)
  plays('HTTP/2', () => ({ port: ports.secure, ca, protocol: 'h2' }), http2)
  plays('the TCP proxy', () => ({ port: ports.tcp }), others.tcp)
  plays('the admin server', () => ({ port: ports.admin }), others.admin)

  it('on HTTP/1.1 pipelines 500 requests: those within the limit get responses, then the connection ends', async () => {
    const bytes = head('GET /later HTTP/1.1').repeat(500)
    const text = await play({ port: ports.plain }, { bytes })
    assert.deepEqual(text.match(/(?<=HTTP\/1\.1 )\d+/g), [...Array(32).fill('200'), '429'])
    assert.match(text, /FLEET_ERR_PIPELINE_LIMIT/)
    // Node closes a TLS connection that keeps sending while it is paused; the client repeats requests without a response.
    await play({ port: ports.secure, ca }, { bytes })
    await legal()
  })

  it('on TLS sends no handshake: the connection ends', async () => {
    await play({ port: ports.secure }, {})
    await play({ port: ports.secure }, { bytes: '\x16\x03\x01\x02\x00', drip: '\x01', everyMs: 100 })
  })

  it('on TLS completes its handshake at its deadline: the process survives', async () => {
    const late = Array.from({ length: 30 }, async (_, i) => {
      const socket = connect(ports.secure, '127.0.0.1').on('error', () => {})
      await sleep(925 + 5 * i)
      const session = connectHttp2(`https://localhost:${ports.secure}`, {
        createConnection: () => connectTls({ socket, ca, servername: 'localhost', ALPNProtocols: ['h2'] }),
      }).on('error', () => {})
      const stream = session.request({ ':path': '/' }).on('error', () => {})
      await until(() => stream.closed || session.destroyed || socket.destroyed)
      session.destroy()
      socket.destroy()
    })
    await Promise.all(late)
    await legal()
  })
})

describe('afterwards', () => {
  it('the process has as many descriptors, requests and tunnels and as much memory as before', async () => {
    await legal()
    await agent.close()
    await victim.restored()
    assert.deepEqual([upstream.slow, upstream.tunnels.size], [0, 0])
  })

  it('no connection exceeded its limit of concurrent upstream requests', () => {
    // Two connections pipelined, one with TLS and one without.
    assert.ok(upstream.mostLater > 0 && upstream.mostLater <= 2 * 32, String(upstream.mostLater))
  })
})
