import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { StallGuard } from '../../src/base/socket-bounds.ts'
import { fleet } from '../../src/fleet.ts'
import { type ListenOptions, type OperatorsOptions, operatorsOnly } from '../../src/instance/operators/index.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'
import { open } from './lifecycle/sockets.ts'

const token = 'an-operator-token-of-more-than-32-bytes'
const bearer = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }

interface Instance {
  app: FastifyInstance
  /** The application's port. */
  port: number
  /** The management listener's. */
  admin: number
}

async function build(
  t: TestContext,
  listen: ListenOptions = {},
  { app = Fastify(), operators = {} }: { app?: FastifyInstance; operators?: OperatorsOptions } = {},
): Promise<FastifyInstance> {
  t.after(() => app.close())
  await app.register(fleet, {
    lifecycle: { signals: false },
    redis: { client: null },
    operators: { token, listen: { port: 0, ...listen }, ...operators },
  })
  app.get('/', async () => ({ hello: 'world' }))
  app.post('/orders', async () => ({ ordered: true }))
  app.get('/*', async () => ({ anything: true }))
  app.get('/debug', { onRequest: operatorsOnly(app), config: { audience: 'operators' } }, async () => ({ debug: true }))
  app.setNotFoundHandler(async (_request, reply) => reply.code(404).send({ own: 'not found' }))
  return app
}

async function start(...[t, listen, more]: Parameters<typeof build>): Promise<Instance> {
  const app = await build(t, listen, more)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, port: (app.server.address() as AddressInfo).port, admin: app.operators.listener?.address?.port ?? 0 }
}

interface Reply {
  status: number
  body: string
}
async function send(port: number, path: string, method = 'GET', headers: Record<string, string> = {}): Promise<Reply> {
  const outgoing = request({ port, host: '127.0.0.1', path, method, headers, agent: false })
  outgoing.end(method === 'POST' ? '{}' : undefined)
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  return { status: response.statusCode ?? 0, body: await text(response) }
}

const probes = ['/live', '/alive', '/ready', '/health']
const operators = [
  ...['/metrics', '/health/detailed', '/fleet', '/fleet/state', '/debug'],
  ...['health', 'instances', 'metrics', 'config'].map((name) => `/api/v1/load-balancer/${name}`),
]
const commands = ['health-check', 'drain', 'undrain'].map((name) => `/api/v1/load-balancer/${name}`)
const routes = ['/', '/things/7', '/fleetx', '/.well-known/unknown']

describe('the management listener', () => {
  it('reports the load of the application’s port, of which its own requests are no part', async (t) => {
    const { app, port, admin } = await start(t, { publicProbes: true })
    const flow = app.fleet.flow as { waiting: number }
    flow.waiting = 4
    for (const at of [port, admin]) {
      const outgoing = request({ port: at, host: '127.0.0.1', path: '/ready', headers: { 'x-fleet-load': '?1' } }).end()
      const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
      response.resume()
      assert.match(String(response.headers['x-fleet-load']), /^inflight=4, /)
    }
    flow.waiting = 0
  })

  for (const publicProbes of [false, true]) {
    it(`serves only probes and operators’ endpoints, ${publicProbes ? 'probes on both ports' : 'off the application’s port'}`, async (t) => {
      const { port, admin } = await start(t, { publicProbes })
      const expect = async (at: number, path: string, method: string, status: number, why: string): Promise<void> => {
        for (const headers of [bearer, { 'content-type': 'application/json' }] as Record<string, string>[]) {
          const isOperator = headers === bearer
          const forOperators = operators.includes(path) || commands.includes(path)
          const wanted = forOperators && !isOperator ? 404 : status
          const { status: got, body } = await send(at, path, method, headers)
          assert.equal(got, wanted, `${method} ${path} ${why}${isOperator ? ' with the token' : ''}: ${body}`)
        }
      }
      for (const method of ['GET', 'HEAD']) {
        for (const path of probes) {
          await expect(admin, path, method, 200, 'on the management port')
          await expect(port, path, method, publicProbes ? 200 : 404, 'on the application’s port')
        }
        for (const path of operators) {
          await expect(admin, path, method, 200, 'on the management port')
          await expect(port, path, method, 404, 'on the application’s port')
        }
        for (const path of routes) {
          await expect(admin, path, method, 404, 'on the management port')
          await expect(port, path, method, 200, 'on the application’s port')
        }
      }
      for (const path of commands) {
        await expect(port, path, 'POST', 404, 'on the application’s port')
        await expect(admin, path, 'POST', 200, 'on the management port')
      }
      await expect(admin, '/orders', 'POST', 404, 'on the management port')
      await expect(port, '/orders', 'POST', 200, 'on the application’s port')
      for (const method of ['DELETE', 'OPTIONS', 'PATCH'])
        await expect(admin, '/', method, 404, 'on the management port')
      // The application’s handler for unknown paths, which could serve anything, is not called.
      assert.equal(JSON.parse((await send(admin, '/nothing', 'PUT')).body).code, 'FLEET_ERR_ROUTE_UNKNOWN')
      assert.deepEqual(JSON.parse((await send(port, '/fleet')).body), { own: 'not found' })
    })
  }

  it('is started for an app that registers fleet in a scope, as the command of Fastify does', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    let scope: FastifyInstance = app
    await app.register(async (inner) => {
      scope = inner
      await inner.register(fleet, {
        lifecycle: { signals: false },
        redis: { client: null },
        operators: { token, listen: { port: 0 } },
      })
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = await until(() => scope.operators.listener?.address, { what: 'the listener', timeoutMs: 10_000 })
    assert.equal((await send(port, '/live')).status, 200)
  })

  it('requires a token too, except in development with a loopback Host', async (t) => {
    const configured = await start(t)
    assert.equal((await send(configured.admin, '/metrics')).status, 404)
    const development = await start(t, {}, { operators: { token: undefined } })
    assert.equal((await send(development.admin, '/metrics')).status, 200)
    assert.equal((await send(development.admin, '/metrics', 'GET', { host: 'rebound.example' })).status, 404)
    assert.equal((await send(development.port, '/metrics')).status, 404)
  })

  it('is not started for an app that is only used with inject, which then has all its routes', async (t) => {
    const app = await build(t)
    for (const url of ['/live', '/metrics', '/']) {
      assert.equal((await app.inject({ url, headers: bearer })).statusCode, 200, url)
    }
    assert.equal(app.operators.listener?.address, null)
  })

  it('fails the boot if its port is in use or its address is not local', async (t) => {
    const taken = await start(t)
    for (const listen of ['promise', 'callback']) {
      const app = await build(t, { port: taken.admin })
      const failed =
        listen === 'promise'
          ? app.listen({ port: 0, host: '127.0.0.1' })
          : new Promise((resolve, reject) => app.listen({ port: 0 }, (error) => (error ? reject(error) : resolve(0))))
      await assert.rejects(failed, {
        code: 'FLEET_ERR_PORT_TAKEN',
        message: new RegExp(`${taken.admin}.*FLEET_ADMIN_PORT`),
      })
      assert.equal(app.server.listening, false)
    }
    const elsewhere = await build(t, { host: '192.0.2.1' })
    await assert.rejects(elsewhere.listen({ port: 0 }), {
      code: 'FLEET_ERR_OPTION_INVALID',
      message: /FLEET_ADMIN_HOST/,
    })
    await assert.rejects(async () => await build(t, { port: 70_000 }), { code: 'FLEET_ERR_OPTION_INVALID' })
  })

  it('closes if the application cannot listen', async (t) => {
    const taken = await start(t)
    const app = await build(t)
    await assert.rejects(app.listen({ port: taken.port, host: '127.0.0.1' }), { code: 'EADDRINUSE' })
    assert.equal(app.operators.listener?.address, null)
  })

  it('uses plain HTTP/1.1 for an HTTP/2 application', async (t) => {
    const app = Fastify({ http2: true }) as unknown as FastifyInstance
    const { admin } = await start(t, {}, { app })
    assert.equal((await send(admin, '/ready')).status, 200)
    assert.match((await send(admin, '/metrics', 'GET', bearer)).body, /^fleet_ready 1$/m)
    assert.equal((await send(admin, '/')).status, 404)
  })

  it('watches each connection for a client that does not read', async (t) => {
    const { admin } = await start(t)
    const add = t.mock.method(StallGuard.prototype, 'add')
    assert.equal((await send(admin, '/live')).status, 200)
    assert.equal(add.mock.callCount(), 1)
  })

  it('survives malformed input and keeps responding', async (t) => {
    const { admin } = await start(t)
    const head = 'Host: localhost\r\n'
    for (const [sent, response] of [
      [`CONNECT x:1 HTTP/1.1\r\n${head}\r\n`, /^HTTP\/1\.1 405 /],
      ['nonsense\r\n\r\n', /^HTTP\/1\.1 400 /],
      [`GET / HTTP/1.1\r\n${head}X: ${'x'.repeat(17_000)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
      [`GET /ready HTTP/1.1\r\n${head}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`, /^HTTP\/1\.1 200 /],
      [
        `POST /api/v1/load-balancer/drain HTTP/1.1\r\n${head}Authorization: Bearer ${token}\r\n` +
          `Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n${'x'.repeat(5_000)}`,
        /^HTTP\/1\.1 413 /,
      ],
    ] as const) {
      const socket = await open(admin, sent)
      await until(() => response.test(socket.received()), { what: String(response) })
      socket.resetAndDestroy()
    }
    for (const sent of [`CONNECT x:1 HTTP/1.1\r\n${head}\r\n`, `GET /metrics HTTP/1.1\r\n${head}`, 'x', '']) {
      for (let i = 0; i < 20; i++) {
        const socket = connect(admin, '127.0.0.1')
        socket.on('error', () => undefined)
        await once(socket, 'connect')
        socket.write(sent, () => socket.resetAndDestroy())
      }
    }
    assert.equal((await send(admin, '/live')).status, 200)
  })

  it('closes with the app, also connections whose request is not complete', async (t) => {
    const { app, admin } = await start(t)
    const socket = await open(admin, 'GET /live HTTP/1.1\r\n')
    await app.close()
    await until(() => socket.closed)
    assert.equal(socket.received(), '')
  })

  it('limits connections and the time for headers', async (t) => {
    const { app, admin } = await start(t)
    const sockets = await Promise.all(Array.from({ length: 300 }, () => open(admin, 'GET /live HTTP/1.1\r\n')))
    const closed = (): number => sockets.filter((socket) => socket.closed).length
    await until(() => closed() >= 44, { what: 'the connections above the bound to be closed' })
    await until(() => closed() === 300, { what: 'the header timeout' })
    assert.match(sockets.map((socket) => socket.received()).join(''), /^HTTP\/1\.1 408 /)
    assert.equal((await send(admin, '/live')).status, 200)
    await app.close()
    await assert.rejects(send(admin, '/live'), { code: 'ECONNREFUSED' })
  })
})

const fixture = new URL('./lifecycle/lifecycle.fixture.ts', import.meta.url)

describe('the management listener during a shutdown', { concurrency: 2 }, () => {
  it('reports the drain until the last request has finished and does not delay the exit', async () => {
    const admin = await freePort()
    const app = forkApp(fixture, {
      env: { DRAIN_DELAY: 0, SHUTDOWN_TIMEOUT: 600_000, FLEET_ADMIN_PORT: admin, FLEET_ADMIN_TOKEN: token },
    })
    const [, port] = await app.waitFor(/listening at http:\/\/127\.0\.0\.1:(\d+)/)
    assert.equal((await send(admin, '/ready')).status, 200)
    assert.equal((await send(Number(port), '/ready')).status, 404)
    // A scraper keeps its connection open.
    const idle = await open(admin, 'GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await until(() => idle.received().includes('200 OK'))

    // In flight until it has its last byte.
    const head = 'Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n'
    const last = await open(Number(port), `POST / HTTP/1.1\r\n${head}\r\n{`)
    await app.waitFor(/"method":"POST"/)
    void app.kill('SIGTERM')
    const isClosed = (): Promise<boolean> =>
      send(Number(port), '/').then(
        () => false,
        ({ code }) => code === 'ECONNREFUSED',
      )
    await until(isClosed, { what: 'the application’s listener to close' })
    const ready = await send(admin, '/ready')
    assert.equal(ready.status, 503)
    assert.match(ready.body, /"reason":"draining"/)
    assert.equal((await send(admin, '/live')).status, 200)
    const seen = await send(admin, '/api/v1/load-balancer/instances', 'GET', bearer)
    assert.match(seen.body, /"state":"draining"/)
    last.write('}')
    await until(() => last.received().startsWith('HTTP/1.1 200 '), { what: 'the response' })
    assert.deepEqual(await app.exit, { code: 0, signal: null })
  })

  it('closes within the deadline even if a plugin hangs', async () => {
    const admin = await freePort()
    const env = { DRAIN_DELAY: 0, SHUTDOWN_TIMEOUT: 500, FIXTURE_HANG_CLOSE: 1, FLEET_ADMIN_PORT: admin }
    const app = forkApp(fixture, { env })
    await app.waitFor(/listening at http:\/\/127\.0\.0\.1:(\d+)/)
    void app.kill('SIGTERM')
    assert.deepEqual(await app.exit, { code: 1, signal: null })
  })
})
