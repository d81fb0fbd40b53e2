import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { PrismaPg } from '@prisma/adapter-pg'
import Fastify from 'fastify'
import { PrismaClient } from '../../src/app/generated/prisma/client.ts'
import { database, databaseError, type PoolsOptions, pools, replicas } from '../../src/database/index.ts'
import { errorResponses } from '../../src/instance/error-responses.ts'
import { metrics } from '../../src/instance/metrics/index.ts'
import { startPgbouncer } from '../helpers/pgbouncer.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { Relay } from '../helpers/relay.ts'
import { until } from '../helpers/until.ts'
import { atEnd } from './cluster.ts'
import { atGate, closeGate } from './databases.ts'

let server: PostgresServer
before(async () => {
  server = await startPostgres()
})

async function open(options: PoolsOptions = {}, url: string = server.url) {
  const pool = await pools(options)
  const prisma = new PrismaClient({ adapter: new PrismaPg(pool.open(url)) })
  atEnd(async () => {
    await prisma.$disconnect()
    await pool.close()
  })
  return { pool, prisma }
}
const sleepFor = (prisma: PrismaClient, seconds: number): Promise<unknown> =>
  prisma.$queryRaw`SELECT pg_sleep(${seconds})::text`

async function codeOf(work: PromiseLike<unknown>): Promise<string | undefined> {
  return Promise.resolve(work).then(
    () => 'none',
    (error: unknown) => databaseError(error)?.code ?? (error as { code?: string }).code,
  )
}

/** Waits until the pool has a connection: on a busy machine it may open none in time. */
const connected = (prisma: PrismaClient): Promise<unknown> =>
  until(async () => (await codeOf(sleepFor(prisma, 0))) === 'none', { what: 'a connection' })

describe('a bounded pool', () => {
  it('limits connections and waiting queries, and rejects further ones at once', async () => {
    const { pool, prisma } = await open({ max: 2, maxWaiting: 3, connectTimeoutMs: 20_000 })
    const openGate = await closeGate(server)
    const work = Promise.all(Array.from({ length: 9 }, () => codeOf(atGate(prisma))))
    await until(() => pool.states[0]?.refused === 4 && pool.states[0].busy === 2)
    assert.deepEqual(pool.states, [{ name: 'primary', max: 2, busy: 2, idle: 0, waiting: 3, refused: 4 }])
    await openGate()
    const codes = await work
    assert.equal(codes.filter((code) => code === 'FLEET_ERR_DATABASE_BUSY').length, 4)
    assert.equal(codes.filter((code) => code === 'none').length, 5)
  })

  it('follows the parameters of its URL', async () => {
    const url = `${server.url}?connection_limit=1&pool_timeout=1&connect_timeout=5&statement_timeout=400`
    const { pool, prisma } = await open({ max: 5, connectTimeoutMs: 60_000, statementTimeoutMs: 60_000 }, url)
    assert.equal(pool.states[0]?.max, 1)
    await connected(prisma)
    // The server cancels it.
    assert.equal(await codeOf(sleepFor(prisma, 600)), 'FLEET_ERR_DATABASE_UNAVAILABLE')
    const openGate = await closeGate(server)
    const { pool: small, prisma: single } = await open({}, `${server.url}?connection_limit=1&pool_timeout=1`)
    await connected(single)
    const first = codeOf(atGate(single))
    await until(() => small.states[0]?.busy === 1)
    assert.equal(await codeOf(sleepFor(single, 0)), 'FLEET_ERR_DATABASE_BUSY')
    await openGate()
    assert.equal(await first, 'none')
    for (const part of ['currentSchema=shop', 'connection_limit=0'])
      assert.throws(() => pool.open(`${server.url}?${part}`), {
        code: 'FLEET_ERR_OPTION_INVALID',
        message: new RegExp(part.replace(/=.*/, '=')),
      })
  })

  it('responds with 503 and Retry-After, also for a transaction', async () => {
    const { pool, prisma } = await open({ max: 1, maxWaiting: 0, connectTimeoutMs: 20_000 })
    // A Prisma query starts when it is awaited.
    const openGate = await closeGate(server)
    const long = Promise.all([atGate(prisma)])
    await until(() => pool.states[0]?.busy === 1)
    const app = Fastify()
    atEnd(() => app.close())
    await app.register(errorResponses)
    await app.register(database, { client: prisma })
    app.get('/one', () => sleepFor(prisma, 0))
    app.get('/many', () => prisma.$transaction((tx) => tx.user.count()))
    for (const path of ['/one', '/many']) {
      const response = await app.inject(path)
      assert.deepEqual([response.statusCode, response.headers['retry-after']], [503, '1'], path)
      assert.equal(response.json().code, 'FLEET_ERR_DATABASE_BUSY')
    }
    await openGate()
    await long
  })

  it('cancels a statement that runs too long or whose server hangs', async () => {
    const relay = await Relay.open(server.port)
    const { prisma } = await open(
      { statementTimeoutMs: 500, connectTimeoutMs: 20_000 },
      server.url.replace(`:${server.port}/`, `:${relay.port}/`),
    )
    assert.equal(await codeOf(sleepFor(prisma, 30)), 'FLEET_ERR_DATABASE_UNAVAILABLE')
    await connected(prisma)
    relay.silence()
    assert.equal(await codeOf(prisma.$queryRaw`SELECT 1 AS n`), 'FLEET_ERR_DATABASE_UNAVAILABLE')
    await relay.restore()
    await connected(prisma)
  })

  it('is reported in /metrics by name', async () => {
    const replica = await startPostgres({ replicaOf: server })
    const pool = await pools({ max: 3, connectTimeoutMs: 20_000 })
    const connect = (url: string, name?: string): PrismaClient =>
      new PrismaClient({ adapter: new PrismaPg(pool.open(url, name)) })
    const prisma = connect(server.url).$extends(replicas({ connect, urls: [replica.url], probeIntervalMs: 100 }))
    const app = Fastify()
    atEnd(() => app.close())
    await app.register(metrics, { runtime: false })
    await app.register(database, { client: () => prisma, pools: pool, ownWrites: { secret: 'x'.repeat(32) } })
    await until(() => prisma.$routing().set.available)
    await prisma.$queryRaw`SELECT 1 AS n`
    await prisma.$primary().$queryRaw`SELECT 1 AS n`
    const { body } = await app.inject('/metrics')
    const value = (series: string): string | undefined =>
      body
        .split('\n')
        .find((line) => line.startsWith(`${series} `))
        ?.split(' ')[1]
    for (const name of ['primary', 'replica_1']) {
      assert.equal(value(`fleet_database_pool_connections{pool="${name}",state="max"}`), '3', name)
      assert.equal(value(`fleet_database_pool_waiting{pool="${name}"}`), '0')
      assert.equal(value(`fleet_database_pool_refused_total{pool="${name}"}`), '0')
      assert.ok(Number(value(`fleet_database_pool_wait_seconds_count{pool="${name}"}`)) > 0)
    }
    assert.equal(value('fleet_database_reads_total{server="replica_1"}'), '1')
    assert.equal(value('fleet_database_replica_up{replica="replica_1"}'), '1')
    assert.equal(value('fleet_database_replica_lag_seconds{replica="replica_1"}'), '0')
  })

  it('rejects wrong options, and closes only pools that it opened', async () => {
    await assert.rejects(pools({ max: 0 }), { code: 'FLEET_ERR_OPTION_INVALID' })
    await assert.rejects(pools({ maximum: 3 } as never), { code: 'FLEET_ERR_OPTION_UNKNOWN' })
  })
})

describe('behind PgBouncer in transaction mode', () => {
  it('requires the option: without it, the startup packet is rejected', async () => {
    const { url } = await startPgbouncer(server)
    const { prisma } = await open({}, url)
    await assert.rejects(prisma.$queryRaw`SELECT 1 AS n`, /unsupported startup parameter/)

    const pooled = await open(
      { max: 10, connectTimeoutMs: 30_000, statementTimeoutMs: 60_000 },
      `${url}?pgbouncer=true`,
    )
    // Ten connections share two: a statement prepared by name on one would be unknown on the other.
    const rounds = Array.from({ length: 60 }, async (_, i) => {
      const [row] = await pooled.prisma.$queryRaw<{ n: number }[]>`SELECT ${i}::int AS n, pg_sleep(0.005)::text`
      assert.equal(row?.n, i)
      const inside = await pooled.prisma.$transaction(
        async (tx) => {
          await tx.$executeRaw`SELECT set_config('shop.request', ${String(i)}, true)`
          return tx.$queryRaw<{ request: string }[]>`SELECT current_setting('shop.request') AS request`
        },
        { maxWait: 60_000, timeout: 60_000 },
      )
      assert.equal(inside[0]?.request, String(i))
    })
    await Promise.all(rounds)
    const [row] = await pooled.prisma.$queryRaw<{ n: number }[]>`
      SELECT count(*)::int AS n FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`
    assert.ok((row?.n ?? 99) < 10)
  })
})
