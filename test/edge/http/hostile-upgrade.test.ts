import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { outcomeOfStream } from './hostile/clients.ts'
import { withDeadline } from './hostile/deadline.ts'
import { sendAll, startHarness } from './hostile/harness.ts'
import { endless, type Script, thenEnd, thenReset } from './hostile/upstream.ts'

/** What a client received before either side ended the connection. */
interface Reply {
  /** 0 without a response; 200 instead of 101 over HTTP/2. */
  status: number
  text: string
}

interface Case {
  script: Script
  /** `opened`: the tunnel is open, and `ok` arrived through it. */
  expected: number | 'opened' | { http1: number; http2: number }
}

const switched = (...lines: string[]): string =>
  ['HTTP/1.1 101 Switching Protocols', 'connection: upgrade', 'upgrade: websocket', ...lines, '', 'ok'].join('\r\n')
const opened = (script: Script): Case => ({ script, expected: 'opened' })
const fails = (script: Script): Case => ({ script, expected: 502 })
const refused = (status: number, ...lines: string[]): Case => ({
  script: thenEnd([`HTTP/1.1 ${status} X`, 'content-length: 2', ...lines, '', 'ok'].join('\r\n')),
  expected: status,
})

const cases: Readonly<Record<string, Case>> = {
  'a 101': opened(switched()),
  'a 101 with a length': opened(switched('content-length: 5')),
  'a 101 with fields named like members of objects': opened(
    switched('__proto__: a', 'constructor: b', 'constructor: c'),
  ),
  'a 101 with two lines of what HTTP/2 allows once': opened(
    switched('date: x', 'date: y', 'content-type: a', 'content-type: b'),
  ),
  'a 101 with bytes above 127': opened(switched('x-a: caf\xe9')),
  'a 101 with fields of one connection': opened(switched('keep-alive: x', 'te: x', 'http2-settings: x', 'trailer: x')),
  'a 101 after a 103': opened(`HTTP/1.1 103 Early Hints\r\nlink: </a>, </b>\r\n\r\n${switched()}`),
  'a 101 without Upgrade': fails('HTTP/1.1 101 Switching Protocols\r\n\r\nok'),
  'a 101 without Connection': fails('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\nok'),
  'a 101 to another protocol': fails(switched().replace('websocket', 'h2c')),
  'a 101 to two protocols': fails(switched('upgrade: h2c')),
  'a 101 with a head of 40 KB': fails(switched(`x: ${'y'.repeat(40_000)}`)),
  'a 101 with a line that is none': fails(switched('nonsense')),
  'many 102': fails('HTTP/1.1 102 Processing\r\n\r\n'.repeat(17) + switched()),
  'an endless number of 102': fails(endless('', 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(1000))),
  'a 200': refused(200),
  'a 200 with Upgrade': refused(200, 'connection: upgrade', 'upgrade: websocket'),
  'a 426': refused(426, 'upgrade: websocket', 'connection: upgrade'),
  'a 404 with two Content-Type lines': refused(404, 'content-type: a', 'content-type: b', '__proto__: x'),
  'a 204': { script: thenEnd('HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\n'), expected: 204 },
  'a 205': refused(205),
  'a 304': refused(304),
  'a 999': { ...refused(999), expected: { http1: 999, http2: 502 } },
  'a 404 in chunks with trailers': {
    script: thenEnd(
      'HTTP/1.1 404 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nte: x\r\nconstructor: y\r\n\r\n',
    ),
    expected: 404,
  },
  'a 404 that stops': { script: 'HTTP/1.1 404 X\r\ncontent-length: 9\r\n\r\nhalf', expected: 404 },
  'a 404 that is reset': { script: thenReset('HTTP/1.1 404 X\r\ncontent-length: 9\r\n\r\nhalf'), expected: 404 },
  'an endless 404': { script: endless('HTTP/1.1 404 X\r\n\r\n', 'x'.repeat(10_000)), expected: 404 },
  'a 101 and the end': opened(thenEnd(switched())),
  // The reset may overtake earlier bytes.
  'a 101 and a reset': { script: thenReset(switched()), expected: { http1: 101, http2: 200 } },
  'the end of the connection': fails((socket) => socket.end()),
  'a reset': fails(thenReset('')),
  'no HTTP': fails(thenEnd('hello\r\n\r\n')),
  nothing: { script: () => {}, expected: 504 },
}

const { plain, session, idle } = await startHarness(
  new Map(Object.entries(cases).map(([name, { script }]) => [`/${name}`, script])),
)
if (!session.remoteSettings?.enableConnectProtocol) await once(session, 'remoteSettings')

/** Reads until the connection ends, the tunnel has carried bytes, or a limit is reached. */
function overHttp1(path: string): Promise<Reply> {
  const { port } = new URL(plain)
  const socket = connect(Number(port), '127.0.0.1')
  const reply: Reply = { status: 0, text: '' }
  let bytes = ''
  socket.setEncoding('latin1').on('error', () => {})
  socket.on('data', (chunk) => {
    bytes += chunk
    const end = bytes.indexOf('\r\n\r\n')
    if (end < 0) return
    Object.assign(reply, { status: Number(bytes.slice(9, 12)), text: bytes.slice(end + 4) })
    if ((reply.status === 101 && reply.text === 'ok') || bytes.length > 100_000) socket.destroy()
  })
  const key = 'connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: x'
  socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n${key}\r\n\r\n`)
  return withDeadline(path, new Promise((resolve) => socket.on('close', () => resolve(reply))))
}

function overHttp2(path: string): Promise<Reply> {
  const stream = session.request(
    { ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https', ':authority': 'x', ':path': path },
    { endStream: false },
  )
  const outcome = outcomeOfStream(stream)
  let text = ''
  stream.on('data', (chunk) => {
    text += chunk
    if (text === 'ok') stream.close(8)
  })
  return withDeadline(path, outcome)
}

describe('a hostile response to a WebSocket upgrade', () => {
  for (const [client, send] of [
    ['HTTP/1.1', overHttp1],
    ['HTTP/2', overHttp2],
  ] as const) {
    describe(`to a client of ${client}`, async () => {
      const replies = await sendAll(Object.keys(cases), (name) => send(`/${encodeURIComponent(name)}`))
      for (const [name, { expected }] of Object.entries(cases)) {
        it(`handles ${name}`, () => {
          const { status, text } = replies.get(name) as Reply
          const http2 = client === 'HTTP/2'
          if (expected === 'opened') assert.deepEqual([status, text], [http2 ? 200 : 101, 'ok'])
          else assert.equal(status, typeof expected === 'number' ? expected : http2 ? expected.http2 : expected.http1)
        })
      }
    })
  }

  it('leaks no memory, descriptors or requests in the proxy', async () => {
    assert.equal(session.destroyed || session.closed, false)
    const { open, heap } = await idle()
    for (const sendRequest of [overHttp1, overHttp2]) {
      await sendAll(Object.keys(cases), (name) => sendRequest(`/${encodeURIComponent(name)}`))
    }
    const now = await idle({ open: open + 5, heap: heap + (8 << 20) })
    assert.equal(now.internalErrors, 0, 'nothing was left to the boundary')
  })
})
