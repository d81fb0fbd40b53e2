import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import { poolSchema } from '../../src/base/internals/prisma.ts'
import { type DatabaseOptions, database } from '../../src/database/index.ts'
import { errorResponses } from '../../src/instance/error-responses.ts'
import { metrics } from '../../src/instance/metrics/index.ts'
import { until } from '../helpers/until.ts'
import { FakeServer, failure, fakeRouter, read, write } from './fake-servers.ts'

const secret = 's'.repeat(32)

interface Setup {
  options?: Partial<DatabaseOptions>
  /** Registers what comes before the database. */
  before?: (app: FastifyInstance) => unknown
  replicas?: number
}

/** An app whose replicas are behind all writes, with its log. */
async function open(t: TestContext, { options = {}, before, replicas = 1 }: Setup = {}) {
  const { primary, router } = await fakeRouter(replicas, { waitMs: 0 })
  primary.position = '0/6000'
  const client = Object.assign(primary, { $routing: () => router, $primary: () => primary })
  const warnings: string[] = []
  const stream = { write: (line: string) => void warnings.push((JSON.parse(line) as { msg: string }).msg) }
  const app = Fastify({ logger: { level: 'warn', stream } })
  t.after(() => app.close())
  await before?.(app)
  await app.register(database, { client: client as never, ownWrites: { secret }, ...options })
  app.post('/write', () => router.route(write))
  app.post('/write-json', async () => ({ server: await router.route(write) }))
  app.get('/read', async () => ({ server: await router.route(read) }))
  return { app, client, router, warnings }
}

const environment = (t: TestContext, values: Record<string, string>): void => {
  const before = { ...process.env }
  Object.assign(process.env, values)
  t.after(() => {
    for (const name of Object.keys(values)) {
      if (before[name] === undefined) delete process.env[name]
      else process.env[name] = before[name]
    }
  })
}

describe('the client of the database', () => {
  /** A client and pools that count their ends. */
  function closing(disconnected: () => Promise<void> = async () => {}) {
    const ended: string[] = []
    const client = new FakeServer('primary')
    client.$disconnect = async () => {
      await disconnected()
      ended.push('client')
    }
    return { client, ended, pools: { states: [], close: async () => void ended.push('pools') } }
  }

  it('is closed with the app, and its pools after it, if the app created it', async (t) => {
    for (const [create, expected] of [
      [true, ['client', 'pools']],
      [false, []],
    ] as const) {
      const { client, ended, pools } = closing()
      const given = create ? async () => client : client
      const { app } = await open(t, { options: { client: given as never, pools: pools as never } })
      assert.equal(app.database, client)
      await app.close()
      assert.deepEqual(ended, expected)
    }
    const { client, ended } = closing()
    const { app } = await open(t, { options: { client: (() => client) as never } })
    await app.close()
    assert.deepEqual(ended, ['client'], 'without pools')
  })

  it('may delay the end of the app by five seconds', async (t) => {
    const { client, ended, pools } = closing(() => new Promise(() => undefined))
    const { app } = await open(t, { options: { client: (() => client) as never, pools: pools as never } })
    await app.ready()
    t.mock.timers.enable({ apis: ['setTimeout'] })
    let isClosed = false
    const closed = app.close().then(() => {
      isClosed = true
    })
    for (let i = 0; i < 20; i++) await turn()
    t.mock.timers.tick(4_999)
    for (let i = 0; i < 20; i++) await turn()
    assert.deepEqual([isClosed, ended], [false, []])
    t.mock.timers.tick(1)
    await closed
    assert.deepEqual(ended, ['pools'])
  })

  it('must have the methods of a Prisma client, or be a function that returns one', async (t) => {
    const { $queryRawUnsafe, $disconnect } = FakeServer.prototype
    for (const wrong of [null, undefined, 'x', {}, { $queryRawUnsafe }, { $disconnect }, () => null, async () => ({})])
      await assert.rejects(open(t, { options: { client: wrong as never } }), {
        code: 'FLEET_ERR_OPTION_INVALID',
        message: /`database\.client` must be a Prisma client/,
      })
  })

  it('uses the schema of its pool', async (t) => {
    const { client } = await open(t)
    const adapter: { externalPool: object; options?: object } = { externalPool: { [poolSchema]: 'shop' } }
    Object.assign(client, { _engineConfig: { adapter } })
    await open(t, { options: { client: client as never } })
    assert.deepEqual(adapter.options, { schema: 'shop' })
  })

  it('has its errors translated, and reports those of an outage to the health check until the end', async (t) => {
    const { app, client } = await open(t, { before: (own) => own.register(errorResponses) })
    const reported: unknown[] = []
    app.health.failed = (name, error) => void reported.push([name, error])
    const errors = { outage: failure('57P01'), conflict: failure('40001'), defect: new Error('mine') }
    for (const [name, error] of Object.entries(errors)) app.get(`/${name}`, async () => Promise.reject(error))
    const statuses = []
    for (const name of Object.keys(errors)) statuses.push((await app.inject(`/${name}`)).statusCode)
    assert.deepEqual([statuses, reported], [[503, 503, 500], [['database', errors.outage]]])
    client.execute = () => Promise.reject(errors.outage)
    const handled = (): Promise<unknown> => client._requestHandler.request(read).catch(() => undefined)
    await handled()
    assert.equal(reported.length, 2, 'the app has handled it')
    await app.close()
    await handled()
    assert.equal(reported.length, 2)
  })

  it('is checked, and shown to operators with its replicas and pools', async (t) => {
    const states = [{ name: 'primary', max: 4, busy: 1, idle: 0, waiting: 0, refused: 0 }]
    const { app, client, router } = await open(t, { options: { pools: { states, close() {} } as never } })
    // With replicas, only the client of the primary is queried.
    Object.assign(client, { position: undefined, $primary: () => new FakeServer('primary') })
    const pool = { used: 1, waiting: 0, max: 4 }
    assert.deepEqual(app.databaseState().primary, { state: 'down', pool }, 'not checked yet')
    await app.ready()
    await until(() => app.health.reports.database?.status === 'up')
    assert.equal(app.health.reports.database?.critical, true)
    await router.route(read)
    assert.deepEqual(app.databaseState(), {
      primary: { state: 'ok', pool },
      replicas: [{ name: 'replica_1', state: 'ok', lagMs: 0, share: 1, pool: null }],
    })
    assert.equal(app.fleet.facts.database, 'postgresql')
  })

  it('has metrics of its pools and of its replicas, if there are any', async (t) => {
    const before = (app: FastifyInstance) => app.register(metrics)
    const names = async ({ app }: { app: FastifyInstance }): Promise<boolean[]> => {
      const text = await app.metrics.metrics()
      return ['pool_waiting', 'reads_total'].map((name) => text.includes(`# TYPE fleet_database_${name}`))
    }
    const pools = { states: [], close() {} } as never
    assert.deepEqual(await names(await open(t, { before, options: { pools } })), [true, true])
    assert.deepEqual(await names(await open(t, { before, options: { ownWrites: false } })), [false, true])
    assert.deepEqual(await names(await open(t, { before, replicas: 0 })), [false, false])
  })
})

describe("the position of a client's writes", () => {
  const cookieOf = async (app: FastifyInstance, url = '/write'): Promise<string | undefined> => {
    const { cookies } = await app.inject({ method: 'POST', url })
    return cookies[0] && `${cookies[0].name}=${cookies[0].value}`
  }

  it('is kept unless `ownWrites` is false or there are no replicas', async (t) => {
    for (const url of ['/write', '/write-json']) assert.ok(await cookieOf((await open(t)).app, url), url)
    assert.equal(await cookieOf((await open(t, { options: { ownWrites: false } })).app), undefined)
    assert.equal(await cookieOf((await open(t, { replicas: 0 })).app), undefined)
  })

  it('is none of a request that an earlier hook responds to', async (t) => {
    const { app } = await open(t, {
      before: (own) => own.addHook('onRequest', async (_request, reply) => reply.code(401).send({ who: 'unknown' })),
    })
    const { statusCode, cookies, body } = await app.inject({ method: 'POST', url: '/write' })
    assert.deepEqual([statusCode, cookies, body], [401, [], '{"who":"unknown"}'])
  })

  for (const [how, place, url, expected] of [
    ['is saved again, without serialization, by a session plugin registered', 'before', '/write', 1],
    ['is saved with the session, without serialization, by a plugin registered', 'after', '/write', 0],
    ['is saved with the session, with serialization, by a plugin registered', 'before', '/write-json', 0],
    ['is saved with the session, with serialization, by a plugin registered', 'after', '/write-json', 0],
  ] as const)
    it(`${how} ${place} the database`, async (t) => {
      let saves = 0
      const session: Record<string, unknown> = { user: 'x', save: async () => void saves++ }
      const add = (own: FastifyInstance): void => {
        own.decorateRequest('session')
        own.addHook('onRequest', async (request) => void Object.assign(request, { session }))
      }
      const { app } = await open(t, place === 'before' ? { before: add } : {})
      if (place === 'after') add(app)
      const { cookies } = await app.inject({ method: 'POST', url })
      assert.deepEqual([saves, cookies, typeof session.walPosition], [expected, [], 'string'])
    })

  it('is signed by a secret of this instance alone without SESSION_SECRET, with a warning', async (t) => {
    const [one, other] = [await open(t, { options: { ownWrites: {} } }), await open(t, { options: { ownWrites: {} } })]
    const cookie = await cookieOf(one.app)
    assert.ok(cookie)
    const server = async ({ app }: typeof one): Promise<string> =>
      (await app.inject({ url: '/read', headers: { cookie } })).json().server
    assert.deepEqual([await server(one), await server(other)], ['primary', 'replica 1'])
    assert.equal(one.warnings.filter((text) => /SESSION_SECRET is not set/.test(text)).length, 1)
    assert.deepEqual((await open(t)).warnings, [])
  })

  it('is signed by SESSION_SECRET', async (t) => {
    environment(t, { SESSION_SECRET: secret })
    const [one, other] = [await open(t, { options: { ownWrites: {} } }), await open(t)]
    const headers = { cookie: await cookieOf(one.app) }
    assert.equal((await other.app.inject({ url: '/read', headers })).json().server, 'primary')
  })

  it('is in a Secure cookie in production, with one warning without TLS, unless the environment says otherwise', async (t) => {
    const secure = async ({ app }: { app: FastifyInstance }): Promise<(boolean | undefined)[]> => {
      const responses = [1, 2].map(() => app.inject({ method: 'POST', url: '/write' }))
      return (await Promise.all(responses)).map(({ cookies }) => cookies[0]?.secure)
    }
    environment(t, { NODE_ENV: 'production' })
    const production = await open(t)
    assert.deepEqual(await secure(production), [true, true])
    const insecure = production.warnings.filter((text) => /is Secure and the request came without TLS/.test(text))
    assert.equal(insecure.length, 1)
    environment(t, { SESSION_COOKIE_SECURE: 'false' })
    assert.deepEqual(await secure(await open(t)), [undefined, undefined])
    environment(t, { NODE_ENV: 'development', SESSION_COOKIE_SECURE: 'true' })
    assert.deepEqual(await secure(await open(t)), [true, true])
  })
})
