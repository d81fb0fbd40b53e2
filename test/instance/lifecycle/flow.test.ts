import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { describe, it, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import { Connections } from '../../../src/instance/lifecycle/connections.ts'
import type { Response } from '../../../src/instance/lifecycle/in-flight.ts'
import { type LifecycleOptions, lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { type OverloadOptions, overload } from '../../../src/instance/overload/index.ts'
import type { ResolvedBounds } from '../../../src/instance/server-bounds.ts'
import { until } from '../../helpers/until.ts'
import { get, open } from './sockets.ts'

const waitMs = 40

interface Served {
  readonly app: FastifyInstance
  readonly port: number
  /** Lets the requests of `/pending` respond. */
  release(): void
}

/** The clock stands still, except that `/slow` takes {@link waitMs}. */
async function serve(t: TestContext, options: LifecycleOptions = {}, limits?: OverloadOptions): Promise<Served> {
  let now = 1_000
  t.mock.method(performance, 'now', () => now)
  const app = Fastify()
  t.after(() => app.close())
  if (limits) await app.register(overload, limits)
  await app.register(lifecycle, { signals: false, shutdownTimeoutMs: 1, ...options })
  const gate = Promise.withResolvers<void>()
  app.get('/slow', async () => {
    now += waitMs
    return 'done'
  })
  app.get('/pending', async () => {
    await gate.promise
    return 'done'
  })
  app.get('/stream', (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/plain' })
    reply.raw.write('begun')
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.after(() => gate.resolve())
  return { app, port: (app.server.address() as { port: number }).port, release: gate.resolve }
}

const flow = (app: FastifyInstance): object => ({ ...app.fleet.flow })
const connections = (app: FastifyInstance): Promise<number> => promisify(app.server.getConnections.bind(app.server))()

describe('flow', () => {
  it('counts a request as waiting until its response starts, and adds up the time until then', async (t) => {
    const { app, port } = await serve(t)
    assert.deepEqual(flow(app), { waiting: 0, responses: 0, waitedMs: 0 })
    for (const count of [1, 2]) {
      const socket = await open(port, get('/slow'))
      await until(() => socket.received().includes('done'))
      assert.deepEqual(flow(app), { waiting: 0, responses: count, waitedMs: waitMs * count })
      socket.destroy()
    }
  })

  it('counts an aborted request neither as waiting nor as a response', async (t) => {
    const { app, port } = await serve(t)
    const sockets = await Promise.all([1, 2, 3].map(() => open(port, get('/pending'))))
    await until(() => app.fleet.flow?.waiting === 3, { what: 'three requests' })
    sockets[0]?.destroy()
    sockets[1]?.destroy()
    await until(() => app.fleet.flow?.waiting === 1, { what: 'two aborted requests' })
    sockets[2]?.destroy()
    await until(() => app.fleet.flow?.waiting === 0, { what: 'the last aborted request' })
    assert.deepEqual(flow(app), { waiting: 0, responses: 0, waitedMs: 0 })
  })

  it('counts a hijacked response once, when it starts, and not again when it is aborted', async (t) => {
    const { app, port } = await serve(t)
    const socket = await open(port, get('/stream'))
    await until(() => socket.received().includes('begun'))
    assert.deepEqual(flow(app), { waiting: 0, responses: 1, waitedMs: 0 })
    socket.destroy()
    await until(async () => (await connections(app)) === 0, { what: 'the end of the connection' })
    assert.deepEqual(flow(app), { waiting: 0, responses: 1, waitedMs: 0 })
    const next = await open(port, get('/slow'))
    await until(() => next.received().includes('done'))
    assert.deepEqual(flow(app), { waiting: 0, responses: 2, waitedMs: waitMs })
    next.destroy()
  })

  it('counts a response that starts twice, such as one of an error in the middle, once', () => {
    const connections = new Connections({ maxConcurrentStreams: 1 } as ResolvedBounds)
    const response = Object.assign(new EventEmitter(), { req: {} }) as unknown as Response
    connections.responding(response)
    connections.begin(response, { method: 'GET', routeOptions: { url: '/' } })
    assert.deepEqual([connections.flow.waiting, connections.flow.responses], [1, 0])
    connections.responding(response)
    connections.responding(response)
    assert.deepEqual([connections.flow.waiting, connections.flow.responses, connections.inFlight], [0, 1, 1])
    response.emit('close')
    response.emit('close')
    assert.deepEqual([connections.flow.waiting, connections.flow.responses, connections.inFlight], [0, 1, 0])
  })

  it('frees the place of an aborted request under the limit of overload protection', async (t) => {
    const { app, port } = await serve(t, {}, { latency: true, burstMs: 60_000 })
    const { limit } = app.overload
    const sockets = await Promise.all(Array.from({ length: limit }, () => open(port, get('/pending'))))
    await until(() => app.fleet.flow?.waiting === limit, { what: 'all requests' })
    assert.equal((await app.inject('/slow')).statusCode, 503)
    for (const socket of sockets) socket.destroy()
    await until(() => app.fleet.flow?.waiting === 0, { what: 'the end of the requests' })
    assert.equal((await app.inject('/slow')).statusCode, 200)
    assert.deepEqual(app.overload.refused, { turn: 0, concurrency: 1 })
  })
})

describe('pipelined requests', () => {
  it('are rejected with 429 beyond maxConcurrentStreams, and later ones are served again', async (t) => {
    const { app, port, release } = await serve(t, { connections: { maxConcurrentStreams: 2 } })
    const socket = await open(port, get('/pending') + get('/pending'))
    await until(() => app.fleet.flow?.waiting === 2)
    socket.write(get('/slow'))
    await until(() => app.fleet.flow?.responses === 1, { what: 'the rejection' })
    assert.equal(app.fleet.flow?.waitedMs, 0, 'the handler did not run')
    release()
    await until(() => socket.received().includes('FST_ERR') || socket.received().includes('PIPELINE'))
    assert.deepEqual(socket.received().match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200', 'HTTP/1.1 200', 'HTTP/1.1 429'])
    assert.match(socket.received(), /HTTP\/1\.1 429[\s\S]*connection: close/i)
    assert.equal(app.fleet.flow?.waiting, 0)
  })

  it('count on their own connection only, until they are answered', async (t) => {
    const { port } = await serve(t, { connections: { maxConcurrentStreams: 1 } })
    const other = await open(port, get('/pending'))
    const socket = await open(port)
    for (const count of [1, 2, 3]) {
      socket.write(get('/slow'))
      await until(() => socket.received().match(/HTTP\/1\.1 200/g)?.length === count, { what: `response ${count}` })
    }
    socket.destroy()
    other.destroy()
  })
})
