import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { createTcpProxy } from '../../src/edge/tcp/index.ts'
import {
  exceedConnections,
  exceedSessionMemory,
  exceedTlsConnections,
  requestsUntilClosed,
  requestsUntilGoaway,
  uploadOverHttp2,
} from '../helpers/hostile/bounds.ts'
import { atEnd } from './at-end.ts'
import { front, pair } from './front.ts'
import { raw } from './raw.ts'
import { startUpstreams } from './upstream.ts'

const file = (name: string): string => readFileSync(new URL(`fixtures/localhost.${name}`, import.meta.url), 'utf8')
const ca = file('crt')
const tls = { key: file('key'), cert: ca }

describe('the bounds of the built-in proxy', () => {
  it('closes an HTTP/1.1 connection after its last allowed request', async () => {
    const plain = await pair({ maxRequestsPerConnection: 3 })
    assert.equal(await requestsUntilClosed(connect(plain.port, '127.0.0.1')), 3)
    const secure = await pair({ maxRequestsPerConnection: 3, tls })
    const socket = connectTls({ port: secure.port, host: '127.0.0.1', ca, servername: 'localhost' })
    assert.equal(await requestsUntilClosed(socket), 3)
  })

  it('does not forward pipelined requests beyond the last allowed one', async () => {
    const { url, upstream } = await pair({ maxRequestsPerConnection: 3 })
    const text = await raw(url, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(9))
    assert.deepEqual(text.match(/(?<=HTTP\/1\.1 )\d+/g), ['200', '200', '200'])
    assert.equal(upstream.seen.length, 3)
  })

  it('sends GOAWAY after the last allowed request of an HTTP/2 session', async () => {
    const { port } = await pair({ maxRequestsPerConnection: 3, tls })
    assert.equal(await requestsUntilGoaway(`https://127.0.0.1:${port}`, ca), 3)
  })

  it('closes connections above the limit', async () => {
    const plain = await pair({ maxConnections: 5 })
    await exceedConnections(plain.port, 5)
    const secure = await pair({ maxConnections: 5, tls })
    await exceedTlsConnections(secure.port, ca, 5)
  })

  it('rejects an HTTP/2 body beyond the limit with 413', async () => {
    const { port, upstream } = await pair({ maxBodyBytes: 50_000, bufferBytes: 1_000, tls })
    for (const announced of [true, false]) {
      assert.equal(await uploadOverHttp2(`https://127.0.0.1:${port}`, 60_000, announced, ca), 413)
      assert.equal(await uploadOverHttp2(`https://127.0.0.1:${port}`, 40_000, announced, ca), 200)
    }
    assert.ok(upstream.seen.length >= 2)
  })

  it('refuses streams of an HTTP/2 session that occupies too much memory', async () => {
    const { port, upstream } = await pair({ maxConcurrentStreams: 1_000, tls })
    upstream.handler = (_, response) => response.end(Buffer.alloc(1 << 20))
    await exceedSessionMemory(`https://127.0.0.1:${port}`, ca)
  })

  it('closes connections to the admin server above the limit', async () => {
    const { proxy } = await front(await startUpstreams(1), { admin: { port: 0 } })
    await exceedConnections(Number(new URL(proxy.adminUrl ?? '').port), 64)
  })
})

describe('the bounds of the TCP proxy', () => {
  it('closes connections above the limit', async () => {
    const [target] = await startUpstreams(1)
    const proxy = createTcpProxy({ targets: [`tcp://127.0.0.1:${target?.port}`], maxConnections: 5 })
    atEnd(() => proxy.close())
    await proxy.listen()
    await exceedConnections(proxy.address?.port as number, 5)
  })
})
