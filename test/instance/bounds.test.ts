import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { type AddressInfo, connect } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { connect as connectTls } from 'node:tls'
import Fastify, { type FastifyInstance } from 'fastify'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import type { ConnectionBounds } from '../../src/instance/server-bounds.ts'
import {
  exceedConnections,
  exceedSessionMemory,
  exceedTlsConnections,
  requestsUntilClosed,
  uploadOverHttp2,
} from '../helpers/hostile/bounds.ts'

const file = (name: string): string =>
  readFileSync(new URL(`../edge/fixtures/localhost.${name}`, import.meta.url), 'utf8')
const ca = file('crt')
const https = { key: file('key'), cert: ca }

async function start(t: TestContext, options: object, connections: ConnectionBounds = {}): Promise<number> {
  const app = Fastify({ ...options, forceCloseConnections: true }) as FastifyInstance
  t.after(() => app.close())
  await app.register(lifecycle, { signals: false, connections })
  app.get('/', async () => 'ok')
  app.post('/', async () => 'ok')
  app.get('/long', async () => Buffer.alloc(1 << 20))
  await app.listen({ port: 0, host: '127.0.0.1' })
  return (app.server.address() as AddressInfo).port
}

describe('the bounds of an instance', () => {
  it('closes an HTTP/1.1 connection after its last allowed request', async (t) => {
    const plain = await start(t, { maxRequestsPerSocket: 3 })
    assert.equal(await requestsUntilClosed(connect(plain, '127.0.0.1')), 3)
    const port = await start(t, { maxRequestsPerSocket: 3, https })
    const socket = connectTls({ port, host: '127.0.0.1', ca, servername: 'localhost' })
    assert.equal(await requestsUntilClosed(socket), 3)
  })

  it('closes connections above the limit', async (t) => {
    await exceedConnections(await start(t, {}, { maxConnections: 5 }), 5)
    await exceedTlsConnections(await start(t, { https }, { maxConnections: 5 }), ca, 5)
    await exceedTlsConnections(await start(t, { https, http2: true }, { maxConnections: 5 }), ca, 5)
  })

  it('rejects an HTTP/2 body beyond the limit with 413', async (t) => {
    const plain = `http://127.0.0.1:${await start(t, { bodyLimit: 50_000, http2: true })}`
    const secure = `https://127.0.0.1:${await start(t, { bodyLimit: 50_000, http2: true, https })}`
    for (const authority of [plain, secure]) {
      for (const announced of [true, false]) {
        assert.equal(await uploadOverHttp2(authority, 60_000, announced, ca), 413)
        assert.equal(await uploadOverHttp2(authority, 40_000, announced, ca), 200)
      }
    }
  })

  it('refuses streams of an HTTP/2 session that occupies too much memory', async (t) => {
    const limits = { maxConcurrentStreams: 1_000 }
    await exceedSessionMemory(`http://127.0.0.1:${await start(t, { http2: true }, limits)}`)
    await exceedSessionMemory(`https://127.0.0.1:${await start(t, { http2: true, https }, limits)}`, ca)
  })
})
