import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { before, describe, it } from 'node:test'
import { Prisma } from '../../src/app/generated/prisma/client.ts'
import { replicas } from '../../src/database/replicas.ts'
import { isRead } from '../../src/database/router.ts'
import { rules } from '../../src/database/routing.ts'
import { until } from '../helpers/until.ts'
import { atEnd, client, serversOf, startCluster, userId } from './cluster.ts'

async function open() {
  const { primary, one, two } = await startCluster()
  const clients = [client('replica', one.url), client('replica', two.url)]
  const prisma = client('primary', primary.url).$extends(replicas({ clients, probeIntervalMs: 100 }))
  atEnd(() => prisma.$disconnect())
  await until(() => prisma.$routing().set.replicas.every(({ healthy }) => healthy))
  return prisma
}
let prisma: Awaited<ReturnType<typeof open>>
before(async () => {
  prisma = await open()
})

const where = { email: 'a@example.com' }
const product = (sku: string) => ({ sku, name: sku, priceCents: 1 })
/** One call of every operation in the table. */
const operations: Record<string, () => PromiseLike<unknown>> = {
  findUnique: () => prisma.user.findUnique({ where }),
  findUniqueOrThrow: () => prisma.user.findUniqueOrThrow({ where }),
  findFirst: () => prisma.user.findFirst({ include: { products: true } }),
  findFirstOrThrow: () => prisma.user.findFirstOrThrow({ where }),
  findMany: () => prisma.user.findMany(),
  count: () => prisma.user.count(),
  aggregate: () => prisma.product.aggregate({ _sum: { stock: true } }),
  groupBy: () => prisma.product.groupBy({ by: ['sku'] }),
  create: () =>
    prisma.user.create({ data: { email: 'b', name: 'b', passwordHash: '-', products: { create: product('b') } } }),
  createMany: () => prisma.product.createMany({ data: [product('c'), product('d')] }),
  createManyAndReturn: () => prisma.product.createManyAndReturn({ data: [product('e')] }),
  update: () => prisma.user.update({ where, data: { products: { create: product('f') } } }),
  updateMany: () => prisma.product.updateMany({ data: { stock: 1 } }),
  updateManyAndReturn: () => prisma.product.updateManyAndReturn({ where: { sku: 'c' }, data: { stock: 2 } }),
  upsert: () => prisma.product.upsert({ where: { sku: 'g' }, create: product('g'), update: {} }),
  delete: () => prisma.product.delete({ where: { sku: 'c' } }),
  deleteMany: () => prisma.product.deleteMany({ where: { sku: 'd' } }),
  $executeRaw: () => prisma.$executeRaw`UPDATE products SET stock = ${2}`,
  $executeRawUnsafe: () => prisma.$executeRawUnsafe('UPDATE products SET stock = $1', 3),
  $queryRaw: () => prisma.$queryRaw`SELECT ${1}::int AS n, ${Prisma.join(['x'])} AS text`,
  $queryRawUnsafe: () => prisma.$queryRawUnsafe('SELECT $1::int AS n', 1),
}

/** Statements for each row of the table. */
const statements: Record<string, readonly string[]> = {
  'one `SELECT`, or `WITH` … `SELECT`, that is none of the following': [
    'SELECT 1 AS n',
    'WITH recent AS (SELECT * FROM products) SELECT count(*) FROM recent',
    'SELECT pg_is_in_recovery(), \'nextval(1)\' AS "update" -- nextval(1)',
  ],
  'a call of a function that is not known to read only: `nextval`, `pg_advisory_lock`, `set_config`, `txid_current`, `dblink`, your own':
    [
      'SELECT writes()',
      "SELECT nextval('ids')",
      "SELECT * FROM (SELECT setval('ids', 7)) x",
      'SELECT pg_try_advisory_xact_lock(1)',
      'SELECT pg_advisory_unlock_all()::text',
      "SELECT set_config('a.b', 'c', true)",
      "SELECT pg_notify('a', 'b')::text",
      'SELECT txid_current()',
      'SELECT txid_current_if_assigned()::text',
      'SELECT lo_creat(-1)::int',
      'SELECT pg_current_wal_lsn()::text',
      'SELECT pg_switch_wal()::text',
      "SELECT pg_logical_emit_message(true, 'outbox', 'order 1')::text",
      'SELECT pg_stat_reset()::text',
    ],
  '`SELECT … FOR UPDATE`, `FOR NO KEY UPDATE`, `FOR SHARE`, `FOR KEY SHARE`': [
    'SELECT id FROM products FOR UPDATE',
    'SELECT id FROM products FOR NO KEY UPDATE',
    'SELECT id FROM products FOR SHARE',
    'SELECT id FROM products FOR KEY SHARE SKIP LOCKED',
  ],
  '`WITH x AS (INSERT, UPDATE, DELETE or MERGE …) SELECT …`': [
    'WITH x AS (UPDATE products SET stock = 3 RETURNING *) SELECT count(*) FROM x',
    'WITH x AS (DELETE FROM products WHERE false RETURNING *) SELECT count(*) FROM x',
    'WITH x AS (INSERT INTO notes VALUES (1) RETURNING *) SELECT count(*) FROM x',
  ],
  '`SELECT … INTO`': ['SELECT * INTO TEMP copied FROM products'],
  'any other statement: `INSERT`, `UPDATE`, `CALL`, `EXPLAIN`, `SHOW`, `VALUES`, …': [
    'UPDATE products SET stock = 4 RETURNING id',
    'SHOW server_version',
    'VALUES (1)',
    'EXPLAIN SELECT 1',
  ],
  'several statements in one, and statements that cannot be classified with certainty': [
    'SELECT /* /* nested */ */ 1 AS n',
    'SELECT 1 AS share',
  ],
}

describe('where operations go', () => {
  for (const { what, to, operations: names = [] } of rules) {
    it(`${what}: ${to}`, async () => {
      const examples = statements[what] ?? []
      assert.ok(names.length + examples.length > 0 || what.includes('$transaction'))
      for (const name of names) {
        const operation = operations[name]
        assert.ok(operation, `${name} is in the table, and must be tested`)
        assert.deepEqual(await serversOf(operation), [to === 'as its statement' ? 'replica' : to], name)
      }
      for (const sql of examples) {
        const requested = await serversOf(() => prisma.$queryRawUnsafe(sql))
        // It looked like a read, and the replica rejected it.
        if (sql === 'SELECT writes()') assert.ok(requested.includes('primary'))
        else assert.deepEqual(requested, [to], sql)
      }
    })
  }

  it('lists every tested operation in the table', () => {
    const named = rules.flatMap(({ operations = [] }) => operations)
    assert.deepEqual(Object.keys(operations).sort(), [...named].sort())
    const rows = rules.map(({ what }) => what)
    for (const what of Object.keys(statements)) assert.ok(rows.includes(what), what)
  })

  it('sends all operations of a transaction to the primary', async () => {
    const batch = () =>
      prisma.$transaction([prisma.user.findMany(), prisma.product.count(), prisma.$queryRaw`SELECT 1 AS n`])
    assert.deepEqual(await serversOf(batch), ['primary'])
    const interactive = () =>
      prisma.$transaction(async (tx) => {
        await tx.product.findMany()
        await tx.$queryRaw`SELECT 1 AS n`
        assert.equal(await tx.$primary().product.count({ where: { sku: 'a' } }), 1)
        await tx.$replica().product.count()
        await tx.product.update({ where: { sku: 'a' }, data: { stock: 4 } })
      })
    assert.deepEqual(await serversOf(interactive), ['primary'])
  })

  it('sends `findUnique(…).products()` and a read with parameters to a replica, with the same result', async () => {
    const fluent = () => prisma.user.findUnique({ where: { id: userId } }).products({ select: { sku: true }, take: 1 })
    assert.deepEqual(await serversOf(fluent), ['replica'])
    assert.deepEqual(await fluent(), [{ sku: 'a' }])
  })

  it('$primary() and $replica() force it', async () => {
    assert.deepEqual(await serversOf(() => prisma.$primary().user.findMany()), ['primary'])
    assert.deepEqual(await serversOf(() => prisma.$primary().$queryRaw`SELECT 1 AS n`), ['primary'])
    assert.deepEqual(await serversOf(() => prisma.$replica().user.findMany()), ['replica'])
    assert.deepEqual(await serversOf(() => prisma.$replica().$queryRawUnsafe('SHOW server_version')), ['replica'])
    assert.deepEqual(await serversOf(() => prisma.$replica().product.updateMany({ data: { stock: 5 } })), ['primary'])
  })

  it('sends an unknown operation to the primary', () => {
    const unknown = { action: 'teleport', clientMethod: 'teleport', args: {} }
    assert.equal(isRead(unknown), false)
    assert.equal(isRead({ ...unknown, modelName: 'User' }), false)
  })

  it('matches the table in the docs', () => {
    const docs = readFileSync(new URL('../../docs/database.md', import.meta.url), 'utf8')
    const printed = docs.split('<!-- routing -->')[1]?.trim().split('\n').slice(2)
    assert.deepEqual(
      printed,
      rules.map(({ what, to, why }) => `| ${what} | ${to} | ${why} |`),
    )
  })
})
