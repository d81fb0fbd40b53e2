import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Server, request as send } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { metrics } from '../../../src/instance/metrics/index.ts'
import { FastReject } from '../../../src/instance/overload/fast-reject.ts'
import { overload } from '../../../src/instance/overload/index.ts'
import { until } from '../../helpers/until.ts'
import { get, open } from '../lifecycle/sockets.ts'

interface FullServer {
  app: FastifyInstance
  port: number
  /** Paths of the requests that reached Fastify. */
  seen: string[]
  /** Lets the requests in flight finish. */
  release(): void
}

/** A server at its limit that has shed one request for each of the paths. */
async function full(
  t: TestContext,
  paths: readonly string[],
  { host = '127.0.0.1', ...options }: FastifyServerOptions & { host?: string; http2?: boolean } = {},
  before: (app: FastifyInstance) => void = () => undefined,
): Promise<FullServer> {
  const app = Fastify(options as FastifyServerOptions) as FastifyInstance
  const gate = Promise.withResolvers<void>()
  t.after(async () => {
    gate.resolve()
    await app.close()
  })
  const seen: string[] = []
  app.addHook('onRequest', async (request) => void seen.push(request.url))
  before(app)
  await app.register(overload, { latency: true, minRequests: 1, burstMs: 60_000, retryAfter: 7 })
  await app.register(lifecycle, { signals: false })
  await app.register(metrics)
  app.get('/pending', async () => await gate.promise)
  for (const path of ['/', '/items/:id', '/again']) app.all(path, async () => ({ path }))
  app.get('/critical', { config: { critical: true } }, async () => ({}))
  app.get('/probe', { config: { probe: true } }, async () => ({}))
  await app.listen({ port: 0, host })
  for (let i = 0; i < app.overload.limit; i++) void app.inject('/pending')
  await until(() => app.fleet.flow?.waiting === app.overload.limit)
  const { port } = app.server.address() as { port: number }
  for (const path of paths) assert.equal((await app.inject(path)).statusCode, 503)
  seen.length = 0
  return { app, port, seen, release: gate.resolve }
}

describe('fast rejection', () => {
  it('sends the same 503 as the hook and keeps the connection', async (t) => {
    const { app, port, seen } = await full(t, ['/'])
    const usual = await app.inject('/')
    seen.length = 0
    const socket = await open(port, get('/?a=1'))
    const reply = String(await until(() => /\}$/.test(socket.received()) && socket.received()))
    const [head = '', body = ''] = reply.split('\r\n\r\n')
    assert.match(head, /^HTTP\/1\.1 503 Service Unavailable\r\n/)
    assert.equal(body, usual.body)
    const headers = Object.fromEntries(
      head
        .split('\r\n')
        .slice(1)
        .map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]),
    )
    assert.equal(headers['content-length'], String(Buffer.byteLength(body)))
    assert.equal(headers['x-instance-id'], app.fleet.instance.id)
    assert.equal(headers['retry-after'], '7')
    assert.equal(headers['cache-control'], 'no-store')
    assert.equal(headers['content-type'], 'application/json; charset=utf-8')
    assert.equal(headers.connection, 'keep-alive')
    assert.equal(JSON.parse(body).code, 'FLEET_ERR_OVERLOADED')
    // Two at once, and one that is served.
    socket.write(get('/') + get('/') + get('/critical'))
    await until(() => /503 .*503 .*503 .*200 OK/s.test(socket.received()))
    assert.deepEqual(seen, ['/critical'])
    socket.destroy()
  })

  it('passes all other paths to Fastify, which knows whether they are critical', async (t) => {
    const { port, seen } = await full(t, ['/', '/items/1', '/again'])
    const statuses: number[] = []
    const urls = ['/critical', '/probe', '/critical?x', '/items/1', '/items/1', '/again/', '/%61gain', '/nowhere', '/']
    for (const url of urls) statuses.push((await fetch(`http://127.0.0.1:${port}${url}`)).status)
    assert.deepEqual(statuses, [200, 200, 200, 503, 503, 503, 503, 503, 503])
    assert.deepEqual(seen, urls.slice(0, -1))
  })

  it('admits requests again below the limit', async (t) => {
    const { app, port, release } = await full(t, ['/'])
    const url = `http://127.0.0.1:${port}/`
    assert.equal((await fetch(url)).status, 503)
    release()
    await until(() => app.fleet.flow?.waiting === 0)
    assert.equal((await fetch(url)).status, 200)
  })

  it('counts like a response of Fastify', async (t) => {
    const { app, port } = await full(t, ['/again'])
    const before = app.load.totals
    const [requests, errors] = [before.requests, before.errors]
    for (let i = 0; i < 3; i++) await (await fetch(`http://127.0.0.1:${port}/again`)).text()
    assert.deepEqual(app.overload.refused, { turn: 0, concurrency: 4 })
    assert.deepEqual(app.load.totals, { requests: requests + 3, errors: errors + 3 })
    const { body } = await app.inject('/metrics')
    assert.match(body, /http_request_duration_seconds_count\{[^}]*route="\/again",status_code="503"[^}]*\} 4/)
  })

  it('discards the rest of a request body and sends no body for HEAD', async (t) => {
    const { app, port, seen } = await full(t, ['/'])
    for (const method of ['POST', 'HEAD'] as const)
      assert.equal((await app.inject({ method, url: '/' })).statusCode, 503)
    seen.length = 0
    const socket = await open(port, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\nbegin')
    await until(() => socket.received().endsWith('}'))
    socket.write(`${'x'.repeat(200_000 - 'begin'.length)}HEAD / HTTP/1.1\r\nHost: x\r\n\r\n`)
    await until(() => socket.received().split('HTTP/1.1 503').length === 3)
    socket.write(get('/critical'))
    await until(() => /200 OK.*\{\}$/s.test(socket.received()))
    assert.match(socket.received(), /\r\n\r\nHTTP\/1\.1 200 OK/)
    assert.deepEqual(seen, ['/critical'])
    socket.destroy()
  })

  it('rejects a request with Expect: 100-continue', async (t) => {
    const { app, port } = await full(t, [])
    assert.equal((await app.inject({ method: 'POST', url: '/' })).statusCode, 503)
    const sending = send({ port, method: 'POST', path: '/', headers: { expect: '100-continue', 'content-length': 2 } })
    sending.once('continue', () => sending.end('{}'))
    sending.flushHeaders()
    const [response] = await once(sending, 'response')
    assert.equal(response.statusCode, 503)
    response.resume()
  })

  it('closes the connection while the instance drains', async (t) => {
    const { app, port } = await full(t, ['/'])
    app.fleet.drain()
    const response = await fetch(`http://127.0.0.1:${port}/`)
    assert.equal(response.status, 503)
    assert.equal(response.headers.get('connection'), 'close')
  })

  it('covers every address of localhost', async (t) => {
    const { app, port, seen } = await full(t, ['/'], { host: 'localhost' })
    for (const { address, family } of app.addresses() as AddressInfo[]) {
      const host = family === 'IPv6' ? `[${address}]` : address
      assert.equal((await fetch(`http://${host}:${port}/`)).status, 503)
    }
    assert.deepEqual(seen, [])
  })

  it('rejects over HTTP/2', async (t) => {
    const { app, port, seen } = await full(t, ['/'], { http2: true })
    const client = connectHttp2(`http://127.0.0.1:${port}`)
    const stream = client.request({ ':path': '/' })
    const [headers] = await once(stream, 'response')
    assert.equal(headers[':status'], 503)
    assert.equal(headers['x-instance-id'], app.fleet.instance.id)
    let body = ''
    for await (const chunk of stream) body += chunk
    assert.equal(JSON.parse(body).code, 'FLEET_ERR_OVERLOADED')
    assert.deepEqual(seen, [])
    client.destroy()
  })

  it('is inactive with further listeners, a serverFactory or rewritten paths', async (t) => {
    const url = ({ port }: FullServer): string => `http://127.0.0.1:${port}/`
    const listened = await full(t, ['/'], {}, (app) => void app.server.on('request', () => undefined))
    const made = await full(t, ['/'], {
      serverFactory: (handler): Server => createServer((request, response) => handler(request, response)),
    })
    const rewritten = await full(t, ['/'], { rewriteUrl: ({ url = '' }) => url })
    for (const one of [listened, made, rewritten]) {
      assert.equal((await fetch(url(one))).status, 503)
      assert.deepEqual(one.seen, ['/'])
    }
  })

  it('passes another method of a path to Fastify', async (t) => {
    const { port, seen } = await full(t, ['/same'], {}, (app) => {
      app.get('/same', async () => ({}))
      app.post('/same', { config: { critical: true } }, async () => ({}))
    })
    const statusOf = async (method: string): Promise<number> =>
      (await fetch(`http://127.0.0.1:${port}/same`, { method })).status
    assert.deepEqual([await statusOf('GET'), await statusOf('POST')], [503, 200])
    assert.deepEqual(seen, ['/same'])
  })

  it('passes a path with several routes to Fastify', async (t) => {
    const { port, seen } = await full(t, ['/of-hosts'], {}, (app) => {
      void app.register(async (scope) => {
        scope.get('/of-hosts', async () => ({}))
        scope.get('/of-hosts', { constraints: { host: 'vital' }, config: { critical: true } }, async () => ({}))
      })
    })
    const socket = await open(port, get('/of-hosts') + get('/of-hosts').replace('Host: x', 'Host: vital'))
    await until(() => socket.received().split('HTTP/1.1 ').length === 3)
    assert.match(socket.received(), /^HTTP\/1\.1 503 .*HTTP\/1\.1 200 OK/s)
    assert.deepEqual(seen, ['/of-hosts', '/of-hosts'])
    socket.destroy()
  })
})

describe('admission of a request', () => {
  it('is decided once, in front of Fastify or in the hook', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    const counted: string[] = []
    let admitted = true
    const limiter = {
      admit: () => counted.push('admit') > 0 && admitted,
      decide: () => counted.push('decide'),
    }
    const fast = new FastReject(limiter as never, () => undefined)
    const admits: boolean[] = []
    app.addHook('onRequest', async (request) => {
      admits.push(fast.admits(request.raw))
      if (request.url === '/inject') await app.inject('/inner')
    })
    for (const url of ['/', '/inject', '/inner']) app.get(url, async () => 'ok')
    fast.install(app)
    fast.install(app)
    fast.ready(app)
    await app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = app.server.address() as { port: number }
    const send = async (url: string): Promise<unknown[]> => {
      counted.length = admits.length = 0
      assert.equal((await fetch(`http://127.0.0.1:${port}${url}`)).status, 200)
      return [[...admits], [...counted]]
    }
    assert.deepEqual(await send('/'), [[true], ['admit']])
    admitted = false
    assert.deepEqual(await send('/'), [[false], ['admit']], 'its route is not known')
    assert.deepEqual(await send('/inject'), [
      [false, false],
      ['admit', 'admit'],
    ])
    await app.inject('/')
    assert.deepEqual([admits.length, counted.length], [3, 3])
  })
})
