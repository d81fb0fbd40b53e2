import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { PrismaPg } from '@prisma/adapter-pg'
import Fastify, { type FastifyInstance } from 'fastify'
import { PrismaClient } from '../../src/app/generated/prisma/client.ts'
import { type DatabaseOptions, database, databaseError, migrate, replicas } from '../../src/database/index.ts'
import { errorResponses } from '../../src/instance/error-responses.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { Relay } from '../helpers/relay.ts'
import { until } from '../helpers/until.ts'
import { atGate, closeGate, newDatabase, query } from './databases.ts'

let server: PostgresServer
before(async () => {
  server = await startPostgres()
  await migrate({ url: server.url, directory: fileURLToPath(new URL('../../prisma/migrations', import.meta.url)) })
})
const closers: (() => Promise<unknown>)[] = []
after(() => Promise.all(closers.map((close) => close())))

function client(url: string, settings: object = {}): PrismaClient {
  const made = new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max: 2, ...settings }) })
  closers.push(() => made.$disconnect())
  return made
}

async function start(options: DatabaseOptions): Promise<FastifyInstance> {
  const app = Fastify()
  closers.push(() => app.close())
  await app.register(database, { check: { intervalMs: 100, fall: 2, rise: 1, timeoutMs: 300 }, ...options } as never)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}
const ready = async (app: FastifyInstance): Promise<number> => (await app.inject('/ready')).statusCode
const live = async (app: FastifyInstance): Promise<number> => (await app.inject('/live')).statusCode

test('starts with the database down: live, not ready, and ready by itself later', async () => {
  await server.stop()
  const app = await start({ client: client(server.url) })
  await until(() => app.health.reports.database?.status === 'down')
  assert.deepEqual([await live(app), await ready(app)], [200, 503])
  await server.restart()
  await until(async () => (await ready(app)) === 200)
  await server.kill()
  await until(async () => (await ready(app)) === 503)
  assert.equal(await live(app), 200)
  await server.restart()
  await until(async () => (await ready(app)) === 200)
  assert.equal(app.fleet.facts.database, 'postgresql')
})

test('queries a hanging database once, not once per interval', async () => {
  const relay = await Relay.open(server.port)
  const app = await start({ client: client(server.url.replace(`:${server.port}/`, `:${relay.port}/`)) })
  await until(async () => (await ready(app)) === 200)
  relay.silence()
  await until(async () => (await ready(app)) === 503)
  await until(() => (app.health.reports.database?.consecutiveFailures ?? 0) > 5)
  await relay.restore()
  // With one query per interval, the pool of two would stay full.
  await until(async () => (await ready(app)) === 200)
})

test('a query that fails because of the server degrades the check at once; another error does not', async () => {
  const prisma = client(server.url)
  const app = Fastify()
  closers.push(() => app.close())
  await app.register(errorResponses)
  await app.register(database, { client: prisma, check: { intervalMs: 3_600_000, timeoutMs: 60_000 } } as never)
  app.get('/count', () => prisma.user.count())
  app.get('/missing', () => prisma.user.findUniqueOrThrow({ where: { email: 'none' } }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const status = (): string | undefined => app.health.reports.database?.status
  await until(() => status() === 'up')
  assert.equal((await app.inject('/missing')).statusCode, 404)
  assert.equal(status(), 'up')
  await server.kill()
  assert.equal((await app.inject('/count')).statusCode, 503)
  assert.equal(status(), 'degraded')
  assert.equal(await ready(app), 200)
  await server.restart()
  await until(async () => (await app.inject('/count')).statusCode === 200)
  await until(async () => {
    await app.health.check()
    return status() === 'up'
  })
})

for (const [name, own] of Object.entries({
  'that the app handles': async (app: FastifyInstance) => {
    app.get('/count', () => (app.database as PrismaClient).user.count().catch(() => -1))
  },
  'of an extended client': async (app: FastifyInstance) => {
    const extended = (app.database as PrismaClient).$extends({ name: 'audit' })
    app.get('/count', () => extended.user.count().catch(() => -1))
  },
  "that reaches the app's own error handler": async (app: FastifyInstance) => {
    app.setErrorHandler((_error, _request, reply) => reply.code(200).send('-1'))
    app.get('/count', () => (app.database as PrismaClient).user.count())
  },
  'of a transaction': async (app: FastifyInstance) => {
    app.get('/count', () => (app.database as PrismaClient).$transaction((tx) => tx.user.count()).catch(() => -1))
  },
}))
  test(`a failure ${name} degrades the check`, async () => {
    const app = Fastify()
    closers.push(() => app.close())
    const check = { intervalMs: 3_600_000, timeoutMs: 60_000 }
    await app.register(database, { client: client(server.url), check } as never)
    await own(app)
    await app.listen({ port: 0, host: '127.0.0.1' })
    const status = (): string | undefined => app.health.reports.database?.status
    await until(() => status() === 'up')
    assert.equal((await app.inject('/count')).body, '0')
    await server.kill()
    assert.equal((await app.inject('/count')).body, '-1')
    assert.equal(status(), 'degraded')
    await server.restart()
  })

test('only degrades when a non-critical database is lost', async () => {
  const app = await start({
    client: client(server.url.replace(/:\d+\//, ':1/')),
    check: { critical: false, intervalMs: 100, timeoutMs: 300 },
  })
  await until(() => app.health.status === 'degraded')
  assert.equal(await ready(app), 200)
})

test('checks the primary, even when reads go to replicas', async () => {
  const replica = await startPostgres({ replicaOf: server })
  const gone = client(server.url.replace(/:\d+\//, ':1/'))
  const changes: boolean[] = []
  const routed = gone.$extends(replicas({ clients: [client(replica.url)], onChange: (_, up) => changes.push(up) }))
  await until(() => changes[0])
  const app = await start({ client: routed })
  await until(async () => (await ready(app)) === 503)
})

test('closes the client it created, and keeps one it was given open', async () => {
  const url = await newDatabase(server)
  const sessions = async (): Promise<unknown> =>
    (
      await query(
        server.url,
        `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = '${url.split('/').at(-1)}'`,
      )
    )[0]?.n
  const made = await start({ client: () => client(url) })
  await made.database.$queryRawUnsafe('SELECT 1')
  assert.notEqual(await sessions(), 0)
  await made.close()
  await until(async () => (await sessions()) === 0)

  const mine = client(url)
  const given = await start({ client: mine })
  assert.equal(given.database, mine)
  await given.database.$queryRawUnsafe('SELECT 1')
  await given.close()
  assert.notEqual(await sessions(), 0)
})

test('rejects an option that is not a client', async () => {
  const wrong = start({ client: { query: () => {} } as never })
  await assert.rejects(wrong, { code: 'FLEET_ERR_OPTION_INVALID', message: /database\.client/ })
})

test('translates database errors for clients', async () => {
  const prisma = client(server.url)
  const small = client(server.url, { connectionTimeoutMillis: 100 })
  const away = client(server.url.replace(/:\d+\//, ':1/'))
  const whileClosed = async (work: () => Promise<unknown>): Promise<void> => {
    const openGate = await closeGate(server)
    await work().finally(openGate)
  }
  const user = { email: 'x@example.com', name: 'x', passwordHash: '-' }
  const { id } = await prisma.user.create({ data: user })
  const product = { sku: 'x', name: 'x', priceCents: 1 }
  const cases: [string, number, () => PromiseLike<unknown>][] = [
    ['FLEET_ERR_RECORD_EXISTS', 409, () => prisma.user.create({ data: user })],
    [
      'FLEET_ERR_RECORD_EXISTS',
      409,
      () => prisma.$executeRaw`INSERT INTO users (id, email, name, password_hash) SELECT ${id}::uuid, 'y', 'y', '-'`,
    ],
    ['FLEET_ERR_RECORD_UNKNOWN', 404, () => prisma.user.update({ where: { email: 'none' }, data: { name: '' } })],
    ['FLEET_ERR_RECORD_UNKNOWN', 404, () => prisma.user.delete({ where: { email: 'none' } })],
    ['FLEET_ERR_RECORD_UNKNOWN', 404, () => prisma.user.findUniqueOrThrow({ where: { email: 'none' } })],
    [
      'FLEET_ERR_RECORD_IN_USE',
      409,
      () => prisma.product.create({ data: { ...product, createdById: '00000000-0000-7000-8000-00000000dead' } }),
    ],
    ['FLEET_ERR_RECORD_INVALID', 400, () => prisma.user.findUnique({ where: { id: 'no uuid' } })],
    ['FLEET_ERR_RECORD_INVALID', 400, () => prisma.user.findMany({ where: { email: 'zero\0byte' } })],
    ['FLEET_ERR_RECORD_INVALID', 400, () => prisma.product.create({ data: { ...product, priceCents: 2 ** 40 } })],
    ['FLEET_ERR_DATABASE_UNAVAILABLE', 503, () => away.user.count()],
    ['FLEET_ERR_DATABASE_UNAVAILABLE', 503, () => away.$queryRaw`SELECT 1`],
    ['FLEET_ERR_DATABASE_UNAVAILABLE', 503, () => away.$transaction((tx) => tx.user.count())],
    ['FLEET_ERR_DATABASE_UNAVAILABLE', 503, () => prisma.$queryRaw`SELECT pg_terminate_backend(pg_backend_pid())`],
    [
      'FLEET_ERR_DATABASE_UNAVAILABLE',
      503,
      // Two of the three occupy the whole pool.
      () => whileClosed(() => Promise.all([1, 2, 3].map(() => atGate(small)))),
    ],
    [
      'FLEET_ERR_DATABASE_UNAVAILABLE',
      503,
      () => client(server.url, { statement_timeout: 50 }).$queryRaw`SELECT pg_sleep(5)::text`,
    ],
    ['FLEET_ERR_DATABASE_UNAVAILABLE', 503, () => whileClosed(() => atGate(client(server.url, { query_timeout: 50 })))],
    ['FLEET_ERR_DATABASE_UNAVAILABLE', 503, () => client(server.url.replace(server.password, 'guess')).user.count()],
  ]
  for (const [code, status, operation] of cases) {
    const error = await Promise.resolve(operation()).then(
      () => assert.fail(`${code}: nothing was thrown`),
      (cause: unknown) => databaseError(cause),
    )
    assert.deepEqual([error?.code, error?.statusCode], [code, status])
    assert.equal(error?.headers?.['retry-after'], status === 503 ? '1' : undefined)
    assert.doesNotMatch(String(error?.message), /127\.0\.0\.1|email|prisma|users/i)
  }
  const defect = await Promise.resolve(prisma.$queryRaw`SELECT nonsense`).catch((cause: unknown) =>
    databaseError(cause),
  )
  assert.equal(defect, undefined, 'a defect stays one')
  assert.equal(databaseError(new Error('mine')), undefined)
  assert.equal(databaseError(null), undefined)
})
