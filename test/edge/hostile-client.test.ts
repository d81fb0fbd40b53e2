import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import { after, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { Agent, request } from 'undici'
import { patienceMs, play, statusOverHttp2 } from '../helpers/hostile/client.ts'
import { head } from '../helpers/hostile/http1.ts'
import { startVictim, testScripts } from '../helpers/hostile/victim.ts'
import { until } from '../helpers/until.ts'
import { upstream, upstreamUrl } from './hostile-client-upstream.ts'
import { adminServer, proxyHttp1, proxyHttp2, tcpProxy } from './hostile-scripts.ts'

const ca = readFileSync(new URL('fixtures/localhost.crt', import.meta.url), 'utf8')
const agent = new Agent({ connect: { ca, servername: 'localhost' }, pipelining: 0 })
after(() => agent.destroy())

interface Ports {
  plain: number
  secure: number
  tcp: number
  admin: number
}

/** Sends a request to every listener. */
async function serve({ plain, secure, tcp, admin }: Ports): Promise<void> {
  const urls = [
    `http://127.0.0.1:${plain}/`,
    `https://127.0.0.1:${secure}/`,
    `http://127.0.0.1:${tcp}/`,
    `http://127.0.0.1:${admin}/live`,
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
  assert.equal(await statusOverHttp2(`https://127.0.0.1:${secure}`, { ca, servername: 'localhost' }), 200)
}

const { victim, ports, served } = await startVictim(new URL('./fixtures/proxies.ts', import.meta.url), serve, {
  env: { UPSTREAM: upstreamUrl },
})

describe('a hostile client', { concurrency: 24 }, () => {
  const secure = { port: ports.secure, ca }
  testScripts('HTTP/1.1', { port: ports.plain }, proxyHttp1, served)
  testScripts('HTTPS/1.1', secure, proxyHttp1, served)
  testScripts('HTTP/2', { ...secure, protocol: 'h2' }, proxyHttp2, served)
  testScripts('the TCP proxy', { port: ports.tcp }, tcpProxy, served)
  testScripts('the admin server', { port: ports.admin }, adminServer, served)

  it('on HTTP/1.1 pipelines 500 requests: those within the limit get responses, then the connection ends', async () => {
    const bytes = head('GET /later HTTP/1.1').repeat(500)
    const text = await play({ port: ports.plain }, { bytes })
    assert.deepEqual(text.match(/(?<=HTTP\/1\.1 )\d+/g), [...Array(32).fill('200'), '429'])
    assert.match(text, /FLEET_ERR_PIPELINE_LIMIT/)
    // Node closes a TLS connection that keeps sending while it is paused; the client repeats requests without a response.
    await play(secure, { bytes })
    await served()
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
    await served()
  })
})

describe('afterwards', () => {
  it('the process has as many descriptors, requests and tunnels and as much memory as before', async () => {
    await served()
    await agent.close()
    await victim.restored()
    assert.deepEqual([upstream.slow, upstream.tunnels.size], [0, 0])
  })

  it('no connection exceeded its limit of concurrent upstream requests', () => {
    // Two connections pipelined, one with TLS and one without.
    assert.ok(upstream.mostLater > 0 && upstream.mostLater <= 2 * 32, String(upstream.mostLater))
  })
})
