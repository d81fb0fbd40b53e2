import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { describe, it, type TestContext } from 'node:test'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { until } from '../../helpers/until.ts'
import { get, open } from './sockets.ts'

const options = { signals: false, evictWindowMs: 0 }

async function listen(app: FastifyInstance): Promise<number> {
  await app.listen({ port: 0, host: '127.0.0.1' })
  return (app.server.address() as { port: number }).port
}

/** An app with a route that responds when the test says so. */
async function start(t: TestContext, given: object = {}): Promise<{ app: FastifyInstance; port: number; go(): void }> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(lifecycle, { ...options, ...given })
  const { promise, resolve } = Promise.withResolvers<void>()
  app.get('/', async () => 'hello')
  app.get('/pending', () => promise.then(() => 'at last'))
  return { app, port: await listen(app), go: resolve }
}

describe('app.close()', () => {
  it('serves requests during the drain delay, with Connection: close and X-Fleet-Draining', async (t) => {
    const { app, port, go } = await start(t, { drainDelayMs: 2_000 })
    const closed = app.close()
    await until(() => app.fleet.state === 'draining')
    const response = await open(port, get('/'))
    await until(() => response.received().includes('hello'))
    assert.match(response.received(), /^HTTP\/1.1 200 /)
    assert.match(response.received(), /x-fleet-draining: 1/i)
    assert.match(response.received(), /connection: close/i)
    const pending = await open(port, get('/pending'))
    await until(() => app.server.listening === false)
    go()
    await closed
    assert.match(pending.received(), /at last/)
    assert.equal(await app.fleet.shutdown(), 0)
  })

  it('responds on kept connections after the listener has closed', async (t) => {
    const { app, port } = await start(t)
    const kept = await open(port, get('/'))
    await until(() => kept.received().includes('hello'))
    const closed = app.close()
    await until(() => !app.server.listening)
    kept.write(get('/'))
    await until(() => kept.received().split('hello').length === 3, { what: 'the second response' })
    await closed
    assert.doesNotMatch(kept.received(), /503/)
  })

  it('is called through an abort signal and `await using` as well', async () => {
    for (const stop of ['signal', 'dispose']) {
      const app = Fastify()
      await app.register(lifecycle, options)
      const states: string[] = []
      app.fleet.onState((state) => states.push(state))
      const aborting = new AbortController()
      await app.listen({ port: 0, host: '127.0.0.1', signal: aborting.signal })
      if (stop === 'signal') aborting.abort()
      else await app[Symbol.asyncDispose]()
      await until(() => app.fleet.state === 'closed')
      assert.deepEqual(states, ['serving', 'draining', 'closed'], stop)
    }
  })

  it('closes once for concurrent callers, and each gets the error of an onClose hook', async () => {
    const app = Fastify()
    await app.register(lifecycle, options)
    let closes = 0
    app.addHook('onClose', async () => {
      closes++
      throw new Error('cannot close')
    })
    await listen(app)
    const calledBack = new Promise((resolve) => app.close(resolve as () => void))
    const code = app.fleet.shutdown()
    await Promise.all([1, 2].map(() => assert.rejects(app.close(), /cannot close/)))
    assert.match(String(await calledBack), /cannot close/)
    assert.equal(await code, 0)
    assert.equal(closes, 1)
    await app.close()
  })

  it('passes a callback what Fastify passes it', async () => {
    const args = async (register: boolean): Promise<unknown[]> => {
      const app = Fastify()
      if (register) await app.register(lifecycle, options)
      await listen(app)
      return await new Promise((resolve) => {
        const returned = (app.close as (listener: unknown) => unknown)(
          (error: unknown, instance: unknown, done: unknown) =>
            resolve([error, instance === app, typeof done, returned === app]),
        )
      })
    }
    assert.deepEqual(await args(true), await args(false))
  })

  it('passes a callback with two parameters the error and a function', async () => {
    const app = Fastify()
    await app.register(lifecycle, options)
    await listen(app)
    const args = await new Promise<unknown[]>((resolve) => {
      ;(app.close as (listener: unknown) => unknown)((error: unknown, done: unknown) => resolve([error, typeof done]))
    })
    assert.deepEqual(args, [null, 'function'])
  })

  it('closes an app that never listened at once, without a drain', async () => {
    const app = Fastify()
    await app.register(lifecycle, { ...options, drainDelayMs: 600_000 })
    const states: string[] = []
    app.fleet.onState((state) => states.push(state))
    app.get('/', async () => 'hello')
    const { headers } = await app.inject('/')
    assert.equal(headers.connection, 'keep-alive')
    assert.equal('x-fleet-draining' in headers, false)
    await app.close()
    assert.deepEqual(states, ['closed'])
  })

  it('completes requests of an app whose server listens without Fastify', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(lifecycle, options)
    const gate = Promise.withResolvers<string>()
    app.get('/pending', () => gate.promise)
    await app.ready()
    await once(app.server.listen(0, '127.0.0.1'), 'listening')
    const pending = await open((app.server.address() as { port: number }).port, get('/pending'))
    await until(() => app.fleet.flow?.waiting === 1)
    const code = app.fleet.shutdown()
    await until(() => !app.server.listening)
    gate.resolve('at last')
    assert.equal(await code, 0)
    assert.match(pending.received(), /^HTTP\/1.1 200 .*at last$/s)
  })

  it('leaves a server alone that another application listens with and a factory returned', async (t) => {
    const server = createServer((_request, response) => void response.end('of the other'))
    t.after(() => {
      server.close()
      server.closeAllConnections()
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const app = Fastify({ serverFactory: () => server })
    await app.register(lifecycle, options)
    await app.ready()
    const kept = await open((server.address() as { port: number }).port, get('/'))
    await until(() => kept.received().includes('of the other'))
    await app.close()
    assert.equal(server.listening, true)
    kept.write(get('/'))
    await until(() => kept.received().split('of the other').length === 3, { what: 'the second response' })
  })

  it('waits for the plugins of an app that never listened, however long they take to close', async (t) => {
    const app = Fastify()
    await app.register(lifecycle, options)
    const warn = t.mock.method(app.log, 'warn')
    let hasClosed = false
    app.addHook('onClose', async () => {
      const since = performance.now()
      // Plugins that are still loading have 300 ms.
      await until(() => performance.now() - since > 350)
      hasClosed = true
    })
    await app.ready()
    assert.equal(await app.fleet.shutdown(), 0)
    assert.deepEqual([hasClosed, warn.mock.callCount()], [true, 0])
  })

  it('adds no header about the drain to responses of inject()', async (t) => {
    const { app } = await start(t)
    app.fleet.drain()
    const { headers } = await app.inject('/')
    assert.equal(headers.connection, 'keep-alive')
    assert.equal('x-fleet-draining' in headers, false)
  })

  it('ends with event streams, WebSockets, kept connections and half a request open', async (t) => {
    const app = Fastify()
    await app.register(lifecycle, options)
    await app.register(websocket)
    app.register(async (scope) => {
      scope.get('/ws', { websocket: true }, (socket) => void socket.on('message', () => undefined))
    })
    app.get('/', async () => 'hello')
    app.get('/events', (_request, reply) => {
      reply.hijack()
      reply.raw.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: first\n\n')
    })
    const port = await listen(app)
    const stream = await open(port, get('/events', 'Accept: text/event-stream\r\n'))
    const kept = await open(port, get('/'))
    await open(port, 'GET / HTTP/1.1\r\nHost: x\r\n')
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
    t.after(() => socket.terminate())
    await once(socket, 'open')
    await until(() => stream.received().includes('first') && kept.received().includes('hello'))
    const [[code]] = await Promise.all([once(socket, 'close'), app.close()])
    assert.equal(code, 1012)
    assert.match(stream.received(), /event: shutdown/)
  })

  it('leaves no timer behind that would keep the process running', async () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const before = timers()
    const app = Fastify()
    await app.register(lifecycle, { ...options, shutdownTimeoutMs: 3_600_000 })
    await listen(app)
    await app.close()
    assert.ok(timers() <= before, `${timers()} timers, ${before} before`)
  })

  it('cuts a long poll at the deadline', async (t) => {
    const { app, port } = await start(t, { shutdownTimeoutMs: 300 })
    const poll = await open(port, get('/pending'))
    await until(() => app.fleet.flow?.waiting === 1)
    await app.close()
    assert.equal(poll.received(), '')
    assert.equal(await app.fleet.shutdown(), 1)
  })
})

describe('a drain of routes without the hooks of the plugin', () => {
  type Routes = (scope: FastifyInstance) => Promise<void>
  const places: Record<string, (app: FastifyInstance, routes: Routes) => Promise<void>> = {
    'registered before it': async (app, routes) => {
      await app.register(routes)
      await app.register(lifecycle, options)
    },
    'outside of its scope': async (app, routes) => {
      await app.register(async (scope) => void (await scope.register(lifecycle, options)))
      await app.register(routes)
    },
  }
  for (const [place, register] of Object.entries(places)) {
    it(`completes requests to routes ${place}`, async () => {
      const app = Fastify()
      const { promise, resolve } = Promise.withResolvers<string>()
      await register(app, async (scope) => {
        scope.get('/', async () => 'hello')
        scope.get('/pending', () => promise)
      })
      const port = await listen(app)
      const kept = await open(port, get('/'))
      await until(() => kept.received().includes('hello'))
      const request = await open(port, get('/pending'))
      // A response on a later connection proves that the request has arrived.
      const later = await open(port, get('/'))
      await until(() => later.received().includes('hello'))
      const closed = app.close()
      await until(() => !app.server.listening)
      kept.write(get('/'))
      await until(() => /connection: close/i.test(kept.received()), { what: 'Connection: close' })
      resolve('at last')
      await closed
      assert.match(request.received(), /^HTTP\/1.1 200 .*connection: close.*at last$/is)
    })
  }
})
