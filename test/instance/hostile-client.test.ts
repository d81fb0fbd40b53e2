import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { after, describe, it } from 'node:test'
import { Agent, request } from 'undici'
import { freePort } from '../helpers/free-port.ts'
import { patienceMs, play, statusOverHttp2 } from '../helpers/hostile/client.ts'
import { head } from '../helpers/hostile/http1.ts'
import { startVictim, testScripts } from '../helpers/hostile/victim.ts'
import { until } from '../helpers/until.ts'
import { agentCheckPort, instanceHttp1, instanceHttp2, managementListener } from './hostile-scripts.ts'

const ca = readFileSync(new URL('../edge/fixtures/localhost.crt', import.meta.url), 'utf8')
const client = new Agent({ connect: { ca, servername: 'localhost' }, pipelining: 0 })
after(() => client.destroy())

interface Ports {
  plain: number
  tls: number
  http2: number
  http2Tls: number
  agent: number
  management: number
}

/** Sends a request to every listener. */
async function serve({ plain, tls, http2, http2Tls, agent, management }: Ports): Promise<void> {
  const urls = [`http://127.0.0.1:${plain}/`, `https://127.0.0.1:${tls}/`, `http://127.0.0.1:${management}/live`]
  for (const url of urls) {
    const { statusCode, body } = await request(url, {
      dispatcher: client,
      headersTimeout: patienceMs,
      bodyTimeout: patienceMs,
    })
    await body.dump()
    assert.equal(statusCode, 200, url)
  }
  assert.equal(await statusOverHttp2(`http://127.0.0.1:${http2}`), 200)
  assert.equal(await statusOverHttp2(`https://127.0.0.1:${http2Tls}`, { ca, servername: 'localhost' }), 200)
  assert.equal(await text(connect(agent, '127.0.0.1')), 'up ready 100%\n')
}

const { victim, ports, served } = await startVictim(new URL('./fixtures/hostile.ts', import.meta.url), serve, {
  env: { AGENT_PORT: await freePort() },
})

describe('a hostile client', { concurrency: 24 }, () => {
  testScripts('HTTP/1.1', { port: ports.plain }, instanceHttp1, served)
  testScripts('HTTPS/1.1', { port: ports.tls, ca }, instanceHttp1, served)
  testScripts('HTTP/2', { port: ports.http2 }, instanceHttp2, served)
  testScripts('HTTP/2 over TLS', { port: ports.http2Tls, ca, protocol: 'h2' }, instanceHttp2, served)
  testScripts('the agent-check port', { port: ports.agent }, agentCheckPort, served)
  testScripts('the management listener', { port: ports.management }, managementListener, served)

  it('on HTTP/1.1 pipelines 500 requests: those within the limit get responses, then the connection ends', async () => {
    const bytes = head('GET /slow HTTP/1.1').repeat(500)
    const receives = /HTTP\/1\.1 200 .*HTTP\/1\.1 429 .*FLEET_ERR_PIPELINE_LIMIT/s
    await play({ port: ports.plain }, { bytes, receives })
    // Node closes a TLS connection that keeps sending while it is paused; the client repeats requests without a response.
    await play({ port: ports.tls, ca }, { bytes })
    await served()
  })

  it('on TLS sends no handshake: the connection ends', async () => {
    for (const port of [ports.tls, ports.http2Tls]) {
      await play({ port }, {})
      await play({ port }, { bytes: '\x16\x03\x01\x02\x00', drip: '\x01', everyMs: 100 })
    }
  })

  it('opens 300 agent-check connections without closing them: they are closed and other clients are served', async () => {
    const place = { port: ports.agent }
    await Promise.all([...Array.from({ length: 300 }, () => play(place, {})), served()])
  })
})

describe('after hostile clients', () => {
  it('the process has as many open descriptors and connections and as much memory in use as before', async () => {
    await served()
    await client.close()
    await victim.restored()
  })

  it('no connection exceeded its limit of requests in flight', async () => {
    const { length } = victim.app.messages
    victim.app.send('most')
    const { mostSlow } = (await until(() => victim.app.messages[length])) as { mostSlow: number }
    // On each of two servers without and with TLS, one connection pipelines, and four open streams.
    assert.ok(mostSlow > 0 && mostSlow <= 10 * 32, String(mostSlow))
  })
})
