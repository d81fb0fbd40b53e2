import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { PrismaPg } from '@prisma/adapter-pg'
import Fastify from 'fastify'
import { PrismaClient } from '../../src/app/generated/prisma/client.ts'
import { database, migrate, type Pools, pools, replicas } from '../../src/database/index.ts'
import { startPgbouncer } from '../helpers/pgbouncer.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'
import { atEnd, caughtUp } from './cluster.ts'
import { newDatabase, query } from './databases.ts'

const directory = fileURLToPath(new URL('../../prisma/migrations', import.meta.url))
const product = { sku: 'a', name: 'a', priceCents: 1 }

let primary: PostgresServer
let replica: PostgresServer
let pool: Pools
before(async () => {
  primary = await startPostgres()
  await migrate({ url: `${primary.url}?schema=shop&connection_limit=3`, directory })
  replica = await startPostgres({ replicaOf: primary })
  await caughtUp(primary, replica)
  pool = await pools({ max: 3, connectTimeoutMs: 20_000 })
  atEnd(() => pool.close())
})

function connect(url: string, name?: string): PrismaClient {
  const made = new PrismaClient({ adapter: new PrismaPg(pool.open(url, name)) })
  atEnd(() => made.$disconnect())
  return made
}
const schemas = async (url: string): Promise<unknown[]> =>
  (await query(url, "SELECT table_schema AS name FROM information_schema.tables WHERE table_name = 'products'")).map(
    ({ name }) => name,
  )

describe('`?schema=` in a database URL', () => {
  it('is used by migrations, models and raw statements, on the primary and on replicas whose URL lacks it', async () => {
    assert.deepEqual(await schemas(primary.url), ['shop'])
    const prisma = connect(`${primary.url}?schema=shop&connection_limit=3`)
      .$extends({ model: { product: { twice: () => 2 } } })
      .$extends(replicas({ connect, urls: [replica.url], probeIntervalMs: 100 }))
    atEnd(() => prisma.$disconnect())
    await until(() => prisma.$routing().set.available)
    await prisma.product.create({ data: product })
    await caughtUp(primary, replica)
    assert.equal(await prisma.product.count(), 1)
    const where = 'SELECT count(*)::int AS n, pg_is_in_recovery() AS replica, current_schema() AS schema FROM products'
    assert.deepEqual(await prisma.$queryRawUnsafe(where), [{ n: 1, replica: true, schema: 'shop' }])
    assert.deepEqual(await prisma.$primary().$queryRawUnsafe(where), [{ n: 1, replica: false, schema: 'shop' }])
    assert.equal(await prisma.$executeRaw`UPDATE products SET stock = 3`, 1)
    const [row] = await prisma.$transaction([prisma.product.findFirst(), prisma.$queryRaw`RESET ALL`])
    assert.equal(row?.stock, 3)
    assert.deepEqual(prisma.$routing().reads.replicas, [2])
  })

  it('is used by a client that is passed to the plugin only, and with a name that needs quotes', async () => {
    // Prisma does not quote `"` in names.
    const name = "it's a Shop \\ 2"
    const url = `${await newDatabase(primary)}?options=-c%20geqo%3Doff&schema=${encodeURIComponent(name)}`
    await migrate({ url, directory })
    assert.deepEqual(await schemas(url.replace(/\?.*/, '')), [name])
    const app = Fastify()
    atEnd(() => app.close())
    await app.register(database, { client: () => connect(url, 'quoted') })
    const client = app.database as PrismaClient
    await client.product.create({ data: product })
    const rows = await client.$queryRaw`SELECT count(*)::int AS n, current_setting('geqo') AS geqo FROM products`
    assert.deepEqual(rows, [{ n: 1, geqo: 'off' }])
  })

  it('is used behind PgBouncer by models, whose statements name it', async () => {
    const { url } = await startPgbouncer(primary)
    const prisma = connect(`${url}?pgbouncer=true&statement_timeout=5000&schema=shop`, 'pooled').$extends(
      replicas({ clients: [] }),
    )
    await assert.doesNotReject(prisma.product.count())
  })

  it('must agree with the option of `PrismaPg` and with the replicas', async () => {
    const invalid = { code: 'FLEET_ERR_OPTION_INVALID' }
    const open = (url: string, schema?: string) =>
      new PrismaClient({ adapter: new PrismaPg(pool.open(url, 'other'), { schema }) })
    const none = replicas({ clients: [] })
    const shop = `${primary.url}?schema=shop`
    none(open(shop, 'shop'))
    none(open(`${primary.url}?schema=public`))
    assert.throws(() => none(open(shop, 'store')), { ...invalid, message: /schema=shop.*schema: 'store'/ })
    const extend = (url: string, other: string) => open(url).$extends(replicas({ clients: [open(other)] }))
    assert.throws(() => extend(shop, replica.url), { ...invalid, message: /replica 1 uses the schema public/ })
    assert.throws(() => extend(primary.url, `${replica.url}?schema=shop`), invalid)
    await extend(`${primary.url}?schema=public`, replica.url).$disconnect()
  })
})

it('a process ends after $disconnect(), without closing its pools', async () => {
  const root = new URL('../../', import.meta.url)
  const program = `
    import { PrismaPg } from '@prisma/adapter-pg'
    import { pools, replicas } from '${new URL('src/database/index.ts', root)}'
    import { PrismaClient } from '${new URL('src/app/generated/prisma/client.ts', root)}'
    const pool = await pools({ idleTimeoutMs: 0 })
    const connect = (url, name) => new PrismaClient({ adapter: new PrismaPg(pool.open(url, name)) })
    const clients = [connect(${JSON.stringify(`${replica.url}?schema=shop`)}, 'replica_1')]
    const prisma = connect(${JSON.stringify(`${primary.url}?schema=shop`)}).$extends(replicas({ clients }))
    await Promise.all([prisma.product.count(), prisma.$primary().product.count(), clients[0].product.count()])
    await prisma.$disconnect()
    console.log('disconnected')
    process.on('exit', () => console.log('ended'))`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { cwd: root, timeout: 60_000 })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  child.stderr.pipe(process.stderr)
  const [code, signal] = await once(child, 'close')
  assert.deepEqual([output, code, signal], ['disconnected\nended\n', 0, null])
})
