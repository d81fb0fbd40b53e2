import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { PrismaPg } from '@prisma/adapter-pg'
import { Prisma, PrismaClient } from '../../src/app/generated/prisma/client.ts'
import { migrate } from '../../src/database/migrate.ts'
import { replicas } from '../../src/database/replicas.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'
import { query } from './databases.ts'
import { Relay } from './relay.ts'

/** Names of the servers that were asked, in order. */
const asked: string[] = []
const closers: (() => Promise<void>)[] = []
after(() => Promise.all(closers.map((close) => close())))

let primary: PostgresServer
let one: PostgresServer
let two: PostgresServer
before(async () => {
  primary = await startPostgres()
  await migrate({ url: primary.url, directory: fileURLToPath(new URL('../../prisma/migrations', import.meta.url)) })
  await query(
    primary.url,
    `INSERT INTO users (id, email, name, password_hash)
       VALUES ('00000000-0000-7000-8000-000000000001', 'a@example.com', 'A', '-');
     INSERT INTO products (id, sku, name, price_cents, created_by_id)
       VALUES ('00000000-0000-7000-8000-000000000002', 'a', 'a', 1, '00000000-0000-7000-8000-000000000001');
     CREATE SEQUENCE ids;
     CREATE FUNCTION writes() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('ids') $$`,
  )
  one = await startPostgres({ replicaOf: primary })
  two = await startPostgres({ replicaOf: primary })
})

/** Every statement but the probe is noted under the client's name. */
function client(name: string, url: string, max = 3): PrismaClient {
  const made = new PrismaClient({
    adapter: new PrismaPg({ connectionString: url, max, connectionTimeoutMillis: 2000 }),
    log: [{ emit: 'event', level: 'query' }],
  })
  ;(made as PrismaClient<'query'>).$on('query', (event) => {
    if (event.query !== 'SELECT 1') asked.push(name)
  })
  closers.push(() => made.$disconnect())
  return made
}

function fleet(urls: string[] = [one.url, two.url]) {
  const changes: string[] = []
  const prisma = client('primary', primary.url).$extends(
    replicas({
      clients: urls.map((url, index) => client(`replica ${index + 1}`, url)),
      probeIntervalMs: 100,
      probeTimeoutMs: 300,
      onChange: (index, healthy) => changes.push(`${index + 1} ${healthy ? 'up' : 'down'}`),
    }),
  )
  closers.push(() => prisma.$disconnect())
  return { prisma, changes, ready: () => until(() => changes.length >= urls.length) }
}

async function who(operation: () => PromiseLike<unknown>): Promise<string[]> {
  asked.length = 0
  await operation()
  return [...new Set(asked)].sort()
}
const anyReplica = ['replica 1', 'replica 2']
const onlyPrimary = ['primary']

test('reads go to the replicas in turn, everything else to the primary', async () => {
  const { prisma, ready } = fleet()
  await ready()
  const reads: Record<string, () => PromiseLike<unknown>> = {
    findMany: () => prisma.user.findMany(),
    findUnique: () => prisma.user.findUnique({ where: { email: 'a@example.com' } }),
    findUniqueOrThrow: () => prisma.user.findUniqueOrThrow({ where: { email: 'a@example.com' } }),
    findFirst: () => prisma.user.findFirst({ include: { products: true } }),
    count: () => prisma.user.count(),
    aggregate: () => prisma.product.aggregate({ _sum: { stock: true } }),
    groupBy: () => prisma.product.groupBy({ by: ['sku'] }),
    fluent: () => prisma.user.findUnique({ where: { email: 'a@example.com' } }).products(),
    queryRaw: () => prisma.$queryRaw`SELECT ${1}::int AS n, ${'x'} AS text`,
    'queryRaw of joined parts': () => prisma.$queryRaw(Prisma.sql`SELECT ${Prisma.join([1, 2])}`),
    queryRawUnsafe: () => prisma.$queryRawUnsafe('SELECT $1::int AS n', 1),
  }
  for (const [name, read] of Object.entries(reads))
    assert.deepEqual(await who(() => Promise.all([read(), read(), read(), read()])), anyReplica, name)

  const sku = 'b'
  const writes: Record<string, () => PromiseLike<unknown>> = {
    create: () => prisma.product.create({ data: { sku, name: 'b', priceCents: 1 } }),
    update: () => prisma.product.update({ where: { sku }, data: { stock: 1 } }),
    upsert: () => prisma.product.upsert({ where: { sku }, create: { sku, name: 'b', priceCents: 1 }, update: {} }),
    executeRaw: () => prisma.$executeRaw`UPDATE products SET stock = 2 WHERE sku = ${sku}`,
    'SELECT FOR UPDATE': () => prisma.$queryRaw`SELECT id FROM products FOR UPDATE`,
    'data-changing CTE': () => prisma.$queryRaw`WITH x AS (UPDATE products SET stock = 3 RETURNING *) SELECT * FROM x`,
    'interactive transaction': () =>
      prisma.$transaction(async (tx) => {
        await tx.product.findMany()
        await tx.$queryRaw`SELECT 1 AS n`
        await tx.product.update({ where: { sku }, data: { stock: 4 } })
      }),
    'batch transaction': () => prisma.$transaction([prisma.user.findMany(), prisma.product.count()]),
    '$primary()': () => prisma.$primary().user.findMany(),
    deleteMany: () => prisma.product.deleteMany({ where: { sku } }),
  }
  for (const [name, write] of Object.entries(writes)) assert.deepEqual(await who(write), onlyPrimary, name)
})

test('results are those of the plain client', async () => {
  const { prisma, ready } = fleet()
  await ready()
  const plain = client('plain', primary.url)
  const where = { email: 'a@example.com' }
  for (const one of [prisma as unknown as PrismaClient, plain]) {
    assert.deepEqual(await one.user.findUnique({ where }).products({ select: { sku: true } }), [{ sku: 'a' }])
    assert.equal(await one.user.findUnique({ where: { email: 'nobody' } }).products(), null)
    assert.deepEqual(await one.product.findFirst({ select: { createdBy: { select: { name: true } } } }), {
      createdBy: { name: 'A' },
    })
    assert.deepEqual(await one.$queryRaw`SELECT ${1}::int AS n, ${'x'}::text AS text`, [{ n: 1, text: 'x' }])
    assert.deepEqual(await one.$queryRawUnsafe('SELECT $1::int AS n', 7), [{ n: 7 }])
    await assert.rejects(one.user.findUniqueOrThrow({ where: { email: 'nobody' } }), { code: 'P2025' })
    await assert.rejects(one.$queryRaw`SELECT nonsense`, { code: 'P2010' })
  }
  const inTransaction = await prisma.$transaction((tx) => tx.$primary().user.count())
  assert.equal(inTransaction, 1)
})

test('a function that writes is refused by the replica, and done by the primary', async () => {
  const { prisma, ready } = fleet()
  await ready()
  const [row] = await prisma.$queryRaw<{ writes: bigint }[]>`SELECT writes()`
  assert.equal(typeof row?.writes, 'bigint')
})

test('one of two replicas killed: no read fails; it is left out, and comes back by itself', async () => {
  const { prisma, changes, ready } = fleet()
  await ready()
  const read = (): Promise<number> => prisma.user.count()
  await Promise.all(Array.from({ length: 10 }, read))
  await one.kill()
  const counts = await Promise.all(Array.from({ length: 40 }, read))
  assert.deepEqual(new Set(counts), new Set([1]))
  await until(() => changes.at(-1) === '1 down')
  assert.deepEqual(await who(() => Promise.all([read(), read(), read()])), ['replica 2'])

  await two.kill()
  assert.deepEqual(new Set(await Promise.all(Array.from({ length: 20 }, read))), new Set([1]))
  await until(() => changes.at(-1) === '2 down')
  assert.deepEqual(await who(() => Promise.all([read(), read()])), onlyPrimary)

  await Promise.all([one.restart(), two.restart()])
  await until(() => changes.slice(-2).sort().join() === '1 up,2 up')
  assert.deepEqual(await who(() => Promise.all([read(), read(), read(), read()])), anyReplica)
})

test('a replica that hangs: reads on it are asked again elsewhere, and it gets no more', async () => {
  const relay = await Relay.open(one.port)
  const { prisma, changes, ready } = fleet([one.url.replace(`:${one.port}/`, `:${relay.port}/`), two.url])
  await ready()
  await Promise.all(Array.from({ length: 10 }, () => prisma.user.count()))
  relay.stall()
  // More than its pool holds: some wait for an answer, some for a connection.
  const reads = Promise.all(Array.from({ length: 20 }, () => prisma.user.count()))
  assert.deepEqual(new Set(await reads), new Set([1]))
  assert.equal(changes.at(-1), '1 down')
  relay.resume()
  await until(() => changes.at(-1) === '1 up')
})

test('a full pool is no dead replica', async () => {
  const prisma = client('primary', primary.url)
  const changes: boolean[] = []
  const busy = client('replica 1', one.url, 1)
  const routed = prisma.$extends(
    replicas({ clients: [busy], probeIntervalMs: 100, probeTimeoutMs: 3_000, onChange: (_, up) => changes.push(up) }),
  )
  await until(() => changes.length === 1)
  await Promise.all(Array.from({ length: 30 }, () => routed.$queryRaw`SELECT 1 AS n, pg_sleep(0.05)::text`))
  assert.deepEqual(changes, [true])
  await routed.$disconnect()
})

test('replicas that are down at boot are left out until they answer', async () => {
  const { prisma, changes } = fleet([one.url.replace(/:\d+\//, ':1/'), two.url])
  assert.equal(await prisma.user.count(), 1)
  await until(() => changes.length === 2)
  assert.deepEqual(changes.sort(), ['1 down', '2 up'])
  assert.deepEqual(await who(() => prisma.user.findMany()), ['replica 2'])
})

test('`connect` opens what $disconnect() closes; clients given stay open', async () => {
  const opened: PrismaClient[] = []
  const connect = (url: string): PrismaClient => {
    const made = client('opened', url)
    opened.push(made)
    return made
  }
  const connections = async (): Promise<unknown> =>
    (await query(one.url, "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'opened'"))[0]?.n
  const url = `${one.url}?application_name=opened`
  const prisma = client('primary', primary.url).$extends(replicas({ connect, urls: [url] }))
  await until(async () => (await connections()) === 1)
  await prisma.$disconnect()
  await until(async () => (await connections()) === 0)

  const given = client('given', url)
  const other = client('primary', primary.url).$extends(replicas({ clients: [given] }))
  await given.user.count()
  await other.$disconnect()
  assert.notEqual(await connections(), 0)
})

test('without replicas the primary does it all; wrong options are refused', async () => {
  const prisma = client('primary', primary.url).$extends(replicas({ connect: (url) => client('x', url), urls: [] }))
  assert.deepEqual(await who(() => prisma.user.count()), onlyPrimary)
  await prisma.$disconnect()
  assert.throws(() => replicas({}), { code: 'FLEET_ERR_OPTION_INVALID' })
  assert.throws(() => replicas({ clients: [], connect: () => prisma.$primary() }), { code: 'FLEET_ERR_OPTION_INVALID' })
  assert.throws(() => replicas({ clients: [], rise: 0 }), { code: 'FLEET_ERR_OPTION_INVALID' })
})
