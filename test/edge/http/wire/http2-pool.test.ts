import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import type { WireOptions } from '../../../../src/edge/http/wire/connection.ts'
import { Http2Pool } from '../../../../src/edge/http/wire/http2-pool.ts'
import { until } from '../../../helpers/until.ts'

const bounds = {
  host: '127.0.0.1',
  serverName: undefined,
  connectTimeoutMs: 60_000,
  responseTimeoutMs: 60_000,
  bodyTimeoutMs: 60_000,
  keepAliveMs: 60_000,
  unsafeKeepAliveMs: 60_000,
  maxHeaderBytes: 1024,
}

async function listening(t: TestContext, server: Server | Http2Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => sockets.add(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

/** A server that keeps its requests until the test responds, and a pool of connections to it. */
async function pair(t: TestContext, options: Partial<WireOptions> = {}, settings: object = {}) {
  const sessions: ServerHttp2Session[] = []
  const streams: ServerHttp2Stream[] = []
  const server = createServer({ settings })
  server.on('session', (session) => sessions.push(session.on('error', () => {})))
  server.on('stream', (stream) => streams.push(stream.on('error', () => {})))
  const port = await listening(t, server)
  const pool = new Http2Pool({ ...bounds, port, ...options })
  t.after(() => pool.close())
  const respond = async (): Promise<void> => {
    await until(() => streams.length > 0)
    for (const stream of streams.splice(0)) stream.respond({ ':status': 200 }, { endStream: true })
  }
  return { pool, sessions, streams, respond }
}

/** @returns `200`, or the name of the error, in brackets if the request was not sent */
const send = (pool: Http2Pool, repeatable = true, onHead = (): void => {}): Promise<string> =>
  new Promise((resolve) => {
    let status = 0
    const handler = {
      onResponseStart: (_: unknown, received: number) => {
        status = received
        onHead()
      },
      onResponseEnd: () => resolve(`${status}`),
      onResponseError: (controller: unknown, { name, ...error }: Error & { code?: string }) =>
        resolve(controller === null ? `[${error.code ?? name}]` : name),
    }
    pool.dispatch(
      { method: 'GET', path: '/', headers: 'host: x\r\n', body: null, rejectable: false },
      handler,
      repeatable,
    )
  })

describe('requests to a server over HTTP/2', () => {
  it('share a connection, also before it is ready and after it was idle', async (t) => {
    const { pool, sessions, streams, respond } = await pair(t)
    const first = [send(pool), send(pool)]
    await until(() => streams.length === 2)
    const third = send(pool)
    await until(() => streams.length === 3)
    await respond()
    assert.deepEqual(await Promise.all([...first, third]), ['200', '200', '200'])
    const later = send(pool)
    await respond()
    assert.equal(await later, '200')
    assert.equal(sessions.length, 1)
  })

  it('use another connection above the number of streams that the server allows', async (t) => {
    const { pool, sessions, streams, respond } = await pair(t, {}, { maxConcurrentStreams: 2 })
    const ready = send(pool)
    await respond()
    await ready
    const requests = [send(pool), send(pool), send(pool)]
    await until(() => streams.length === 3)
    assert.equal(sessions.length, 2)
    await respond()
    await Promise.all(requests)
  })

  it('use another connection above 100', async (t) => {
    const { pool, sessions, streams, respond } = await pair(t, {}, { maxConcurrentStreams: 1000 })
    const requests = Array.from({ length: 100 }, () => send(pool))
    await until(() => streams.length === 100)
    assert.equal(sessions.length, 1)
    requests.push(send(pool))
    await until(() => streams.length === 101)
    assert.equal(sessions.length, 2)
    await respond()
    await Promise.all(requests)
  })

  for (const [idleMs, repeatable, connections] of [
    [3999, true, 1],
    [4000, true, 2],
    [149, false, 1],
    [150, false, 2],
    [150, true, 1],
  ] as const)
    it(`use ${connections === 1 ? 'the same' : 'a new'} connection after ${idleMs} ms if they ${repeatable ? 'can' : 'cannot'} be repeated`, async (t) => {
      const { pool, sessions, respond } = await pair(t, { keepAliveMs: 4000, unsafeKeepAliveMs: 150 })
      const clock = { now: performance.now() }
      t.mock.method(performance, 'now', () => clock.now)
      const first = send(pool)
      // The idle time starts with the end of the request, not with the connection.
      clock.now += 10_000
      await respond()
      await first
      clock.now += idleMs
      const second = send(pool, repeatable)
      await respond()
      assert.equal(await second, '200')
      assert.equal(sessions.length, connections)
      // The old connection is closed.
      await until(() => sessions.filter(({ destroyed }) => !destroyed).length === 1)
    })

  it('may have a shorter keep-alive than that for requests that cannot be repeated', async (t) => {
    const { pool, sessions, respond } = await pair(t, { keepAliveMs: 100_000, unsafeKeepAliveMs: 1_000_000 })
    const clock = { now: performance.now() }
    t.mock.method(performance, 'now', () => clock.now)
    const first = send(pool)
    await respond()
    await first
    clock.now += 100_000
    const second = send(pool, false)
    await respond()
    await second
    assert.equal(sessions.length, 2)
  })

  it('use no connection that got GOAWAY; those on it are completed', async (t) => {
    const { pool, sessions, streams, respond } = await pair(t)
    let hasHead = false
    const running = send(pool, true, () => {
      hasHead = true
    })
    await until(() => streams.length === 1)
    const [old] = streams.splice(0)
    // GOAWAY comes before the head.
    sessions[0]?.close()
    old?.respond({ ':status': 200 })
    await until(() => hasHead)
    const next = send(pool)
    await respond()
    assert.equal(await next, '200')
    assert.equal(sessions.length, 2)
    old?.end()
    assert.equal(await running, '200')
    await until(() => sessions[0]?.destroyed === true)
  })

  it('fail if there is no server, and were not sent', async (t) => {
    const server = createTcpServer()
    const port = await listening(t, server)
    await new Promise((resolve) => server.close(resolve))
    assert.equal(await send(new Http2Pool({ ...bounds, port })), '[ECONNREFUSED]')
  })

  it('fail if the server does not speak HTTP/2 within connectTimeoutMs, and were not sent', async (t) => {
    const port = await listening(t, createTcpServer())
    const pool = new Http2Pool({ ...bounds, port, connectTimeoutMs: 30 })
    assert.equal(await send(pool), '[UND_ERR_CONNECT_TIMEOUT]')
    await pool.close()
  })

  it('are not bound by connectTimeoutMs once the connection is ready', async (t) => {
    const { pool, streams, respond } = await pair(t, { connectTimeoutMs: 200 })
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const request = send(pool)
    await until(() => streams.length === 1)
    t.mock.timers.tick(10_000)
    t.mock.timers.reset()
    await respond()
    assert.equal(await request, '200')
  })

  it('fail when their connection is lost', async (t) => {
    const { pool, sessions, streams } = await pair(t)
    const requests = [send(pool), send(pool)]
    await until(() => streams.length === 2)
    sessions[0]?.destroy()
    for (const outcome of await Promise.all(requests)) assert.match(outcome, /Error$/)
  })
})

describe('the connections to a server over HTTP/2', () => {
  it('close with their pool: idle ones at once, the others after their requests', async (t) => {
    const { pool, sessions, streams, respond } = await pair(t)
    const request = send(pool)
    await until(() => streams.length === 1)
    let closed = false
    const closing = pool.close().then(() => {
      closed = true
    })
    await new Promise(setImmediate)
    assert.equal(closed, false)
    await respond()
    assert.equal(await request, '200')
    await closing
    await until(() => sessions[0]?.destroyed === true)
    const idle = await pair(t)
    const done = send(idle.pool)
    await idle.respond()
    await done
    await idle.pool.close()
    await until(() => idle.sessions[0]?.destroyed === true)
  })

  it('close at once if there are none', async () => {
    await new Http2Pool({ ...bounds, port: 1 }).close()
  })

  it('close after keepAliveMs without a request', async (t) => {
    const { pool, sessions, respond } = await pair(t, { keepAliveMs: 40 })
    const request = send(pool)
    await respond()
    await request
    await until(() => sessions[0]?.destroyed === true)
  })

  it('stay after keepAliveMs while they have a request', async (t) => {
    const { pool, streams, respond } = await pair(t, { keepAliveMs: 1 })
    const request = send(pool)
    await until(() => streams.length === 1)
    await until(() => new Promise((resolve) => setTimeout(resolve, 10, true)))
    await respond()
    assert.equal(await request, '200')
  })

  it('ask for no push, and for heads up to maxHeaderBytes', async (t) => {
    const { pool, sessions, streams, respond } = await pair(t, { maxHeaderBytes: 4321 })
    const request = send(pool)
    await until(() => streams.length === 1)
    const { enablePush, maxHeaderListSize } = sessions[0]?.remoteSettings ?? {}
    assert.deepEqual([enablePush, maxHeaderListSize], [false, 4321])
    await respond()
    await request
  })
})
