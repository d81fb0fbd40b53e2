import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { type HeadersOptions, headers } from '../../src/instance/headers.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'

/** A serving app whose clock the test moves. */
async function serve(t: TestContext, options: HeadersOptions = {}) {
  let now = 10_000
  t.mock.method(performance, 'now', () => now)
  const app = Fastify()
  t.after(() => app.close())
  await app.register(lifecycle, { signals: false, shutdownTimeoutMs: 1 })
  await app.register(headers, options)
  app.get<{ Params: { ms: string } }>('/takes/:ms', async ({ params }) => {
    now += Number(params.ms)
    return {}
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const pass = (ms: number): void => {
    now += ms
  }
  return { app, pass }
}
const header = async (app: FastifyInstance, name: string, ms = 0): Promise<unknown> =>
  (await app.inject(`/takes/${ms}`)).headers[name]

describe('X-Load-Balancer-Ready', () => {
  const ready = (app: FastifyInstance): Promise<unknown> => header(app, 'x-load-balancer-ready')

  it('follows a change of the state at once, and any other change within 5 ms', async (t) => {
    const { app, pass } = await serve(t)
    let isReady = true
    Object.defineProperty(app.fleet, 'ready', { get: () => isReady && app.fleet.state === 'serving' })
    assert.equal(await ready(app), 'true')
    app.fleet.drain()
    assert.equal(await ready(app), 'false')
    app.fleet.undrain()
    assert.equal(await ready(app), 'true')
    isReady = false
    pass(5.1)
    assert.equal(await ready(app), 'false')
  })

  it('is the state without health checks', async (t) => {
    const { app } = await serve(t)
    assert.equal('ready' in app.fleet, false)
    assert.equal(await ready(app), 'true')
    app.fleet.drain()
    assert.equal(await ready(app), 'false')
  })

  it('costs one evaluation of all checks in 5 ms at most', async (t) => {
    const { app, pass } = await serve(t)
    let reads = 0
    Object.defineProperty(app.fleet, 'ready', { get: () => ++reads > 0 })
    for (let i = 0; i < 10; i++) await ready(app)
    pass(5)
    await ready(app)
    assert.equal(reads, 1)
  })
})

describe('X-Response-Time', () => {
  it('is in tenths of a millisecond, however long', async (t) => {
    const { app } = await serve(t)
    for (const [ms, text] of [
      [0, '0.0ms'],
      [0.04, '0.0ms'],
      [1.25, '1.3ms'],
      [99.94, '99.9ms'],
      [100, '100.0ms'],
      [12_345.67, '12345.7ms'],
    ] as const)
      assert.equal(await header(app, 'x-response-time', ms), text)
  })
})

describe('headers that name the instance', () => {
  it('are host and process id in X-Served-By', async (t) => {
    const { app } = await serve(t)
    const { host, pid } = app.fleet.instance
    assert.equal(await header(app, 'x-served-by'), `${host}:${pid}`)
  })

  it('tell whether sessions are shared: by the store alone, at once', async (t) => {
    const { app } = await serve(t)
    assert.equal(await header(app, 'x-session-shared'), 'false')
    app.fleet.describe('sessionStore', 'redis')
    assert.equal(await header(app, 'x-session-shared'), 'true')
    app.fleet.describe('sessionStore', 'memory')
    assert.deepEqual([await header(app, 'x-session-shared'), await header(app, 'x-stateless')], ['false', 'false'])
  })

  it('are left out one by one', async (t) => {
    const { app } = await serve(t, { names: { ready: false, requestId: false, responseTime: false } })
    const { headers: sent } = await app.inject('/takes/0')
    const names = ['x-load-balancer-ready', 'x-request-id', 'x-response-time', 'x-instance-id', 'false']
    assert.deepEqual(
      names.map((name) => name in sent),
      [false, false, false, true, false],
    )
  })

  it('are in a response that a hook of the app sends before those of fleet run', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    app.addHook('onRequest', async (_request, reply) => reply.code(401).send({}))
    await app.register(headers)
    app.get('/', async () => ({}))
    const { statusCode, headers: sent } = await app.inject('/')
    assert.deepEqual([statusCode, sent['x-instance-id']], [401, app.fleet.instance.id])
  })

  it('have no invalid name', async () => {
    for (const name of ['', 'a b', 'a:b', 'ä'])
      await assert.rejects(async () => await Fastify().register(headers, { names: { ready: name } }), {
        code: 'FLEET_ERR_OPTION_INVALID',
        message: /headers\.names\.ready/,
      })
  })
})
