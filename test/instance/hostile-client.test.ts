import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { before, describe, it } from 'node:test'
import { freePort } from '../helpers/free-port.ts'
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

let victim: Victim
let ports: { plain: number; http2: number; agent: number }

/** Other clients get their responses, however late, because hostile ones may keep the process busy. */
async function legal(): Promise<void> {
  await until(
    async () => {
      victim.lives()
      assert.equal(
        await (await fetch(`http://127.0.0.1:${ports.plain}/`, { signal: AbortSignal.timeout(patienceMs) })).text(),
        'ok',
      )
      assert.equal(await statusOverHttp2(`http://127.0.0.1:${ports.http2}`), 200)
      assert.equal(await text(connect(ports.agent, '127.0.0.1')), 'up ready 100%\n')
      return true
    },
    { timeoutMs: 30_000, what: 'a response on every port' },
  )
}

before(async () => {
  victim = new Victim(new URL('./fixtures/hostile.ts', import.meta.url), { env: { AGENT_PORT: await freePort() } })
  const [, json] = await victim.app.waitFor(/ports (\{.*\})/)
  ports = JSON.parse(json as string)
  await legal()
  await victim.rest()
})

const head = (first: string, ...lines: string[]): string =>
  `${[first, 'Host: localhost', ...lines].join('\r\n')}\r\n\r\n`
const upgrade = (path: string): string =>
  head(
    `GET ${path} HTTP/1.1`,
    'Connection: upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
  )

const http1: Record<string, Script> = {
  'resets with CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), acts: 'reset' },
  'stays after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1') },
  'sends CONNECT as HTTP/2.0': { bytes: head('CONNECT localhost:443 HTTP/2.0') },
  'sends GET as HTTP/2.0': { bytes: head('GET / HTTP/2.0') },
  'sends the preface of HTTP/2': { bytes: preface() },
  'resets while its WebSocket waits for a hook': { bytes: upgrade('/ws'), acts: 'reset' },
  'resets while its WebSocket is refused': { bytes: upgrade('/refused'), acts: 'reset' },
  'resets its WebSocket': { bytes: upgrade('/ws'), after: /101/, acts: 'reset' },
  'resets with an upgrade to something else': { bytes: upgrade('/').replace('websocket', 'x'), acts: 'reset' },
  'sends nothing': { gets: /^HTTP\/1\.1 408 / },
  'drips header lines': { bytes: 'GET / HTTP/1.1\r\nHost: x\r\n', drip: 'X: y\r\n', gets: /^HTTP\/1\.1 408 / },
  'drips a body': {
    bytes: head('POST / HTTP/1.1', 'Content-Type: text/plain', 'Content-Length: 10000'),
    drip: 'x',
    gets: /^HTTP\/1\.1 408 /,
  },
  'drips chunks': {
    bytes: head('POST / HTTP/1.1', 'Content-Type: text/plain', 'Transfer-Encoding: chunked'),
    drip: '1\r\nx\r\n',
  },
  'sends a body beyond the limit': {
    bytes: head('POST / HTTP/1.1', 'Content-Type: text/plain', 'Content-Length: 9000000'),
    drip: 'x',
    gets: /^HTTP\/1\.1 413 /,
  },
  'sends a header of 20 KB': { bytes: head('GET / HTTP/1.1', `X: ${'y'.repeat(20_000)}`), gets: /^HTTP\/1\.1 431 / },
  'sends endless trailers': {
    bytes: `${head('POST / HTTP/1.1', 'Content-Type: text/plain', 'Transfer-Encoding: chunked')}0\r\n${'X: aaaaaaaaaaaaaaaaaaaa\r\n'.repeat(1000)}`,
  },
  'stays idle after a request': { bytes: head('GET / HTTP/1.1'), gets: /^HTTP\/1\.1 200 / },
  'never reads a response': { bytes: head('GET /big HTTP/1.1'), deaf: true },
  'resets within a response': { bytes: head('GET /big HTTP/1.1'), after: /200/, acts: 'reset' },
  'pipelines 500 requests': {
    bytes: head('GET /slow HTTP/1.1').repeat(500),
    gets: /HTTP\/1\.1 200 .*HTTP\/1\.1 429 .*FLEET_ERR_PIPELINE_LIMIT/s,
  },
  'pipelines without reading': { drip: head('GET / HTTP/1.1').repeat(500), deaf: true },
}

const request = (stream: number, path: string): Buffer =>
  frame(frames.headers, flags.endStream | flags.endHeaders, stream, block('GET', path))
const upload = frame(frames.headers, flags.endHeaders, 1, block('POST', '/', [['content-type', 'text/plain']]))
const ping = frame(frames.ping, 0, 0, Buffer.alloc(8))
const times = (count: number, make: (i: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)))

const http2: Record<string, Script> = {
  'sends no preface': {},
  'sends a preface and nothing else': { bytes: preface() },
  'only responds to pings': { bytes: preface(), drip: ping, everyMs: 100 },
  'stays idle after a request': { bytes: Buffer.concat([preface(), request(1, '/')]) },
  'does not end its headers': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endStream, 1, block('GET', '/'))]),
  },
  'does not finish an upload': { bytes: Buffer.concat([preface(), upload]) },
  'drips an upload': { bytes: Buffer.concat([preface(), upload]), drip: frame(frames.data, 0, 1, Buffer.from('x')) },
  'gives no window for a short response': { bytes: Buffer.concat([preface({ 4: 0 }), request(1, '/')]) },
  'gives no window for a long response': { bytes: Buffer.concat([preface({ 4: 0 }), request(1, '/big')]) },
  'floods with PING': { bytes: preface(), drip: times(2000, () => ping), everyMs: 2 },
  'resets 3,000 requests at once': {
    bytes: Buffer.concat([
      preface(),
      times(3000, (i) =>
        Buffer.concat([request(2 * i + 1, '/slow'), frame(frames.reset, 0, 2 * i + 1, Buffer.from([0, 0, 0, 8]))]),
      ),
    ]),
  },
  'opens 1,000 streams and resets the connection': {
    bytes: Buffer.concat([preface(), times(1000, (i) => request(2 * i + 1, '/slow'))]),
    acts: 'reset',
  },
}

const agent: Record<string, Script> = {
  'never closes its side': { gets: /^up ready 100%\n$/ },
  'resets at once': { acts: 'reset' },
  'sends without end': { drip: 'x'.repeat(10_000), gets: /^up ready 100%\n$/ },
  'never reads': { deaf: true },
}

describe('a hostile client', { concurrency: 16 }, () => {
  const plays = (name: string, place: () => Place, scripts: Record<string, Script>): void => {
    for (const [title, script] of Object.entries(scripts)) {
      it(`on ${name} ${title}: its connection is closed and other clients are served`, async () => {
        await play(place(), script)
        await legal()
      })
    }
  }
  plays('HTTP/1.1', () => ({ port: ports.plain }), http1)
  plays('HTTP/2', () => ({ port: ports.http2 }), http2)
  plays('the agent-check port', () => ({ port: ports.agent }), agent)

  it('opens 300 agent-check connections without closing them: they are closed and other clients are served', async () => {
    const place = { port: ports.agent }
    await Promise.all([...Array.from({ length: 300 }, () => play(place, {})), legal()])
  })
})

describe('after hostile clients', () => {
  it('the process has as many open descriptors and connections and as much memory in use as before', async () => {
    await legal()
    await victim.restored()
  })

  it('no connection exceeded its limit of requests in flight', async () => {
    const { length } = victim.app.messages
    victim.app.send('most')
    const { mostSlow } = (await until(() => victim.app.messages[length])) as { mostSlow: number }
    // One connection pipelines, and two open streams.
    assert.ok(mostSlow > 0 && mostSlow <= 3 * 32, String(mostSlow))
  })
})
