import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { verifyPassword } from '../../src/app/password.ts'
import { launch } from '../../src/cli/up/child.ts'
import { newDatabase, query } from '../database/databases.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
let server: PostgresServer
before(async () => {
  server = await startPostgres()
})

async function run(url: string, args: string[], env: Record<string, string | undefined> = {}) {
  const child = launch(process.execPath, args, {
    cwd: root,
    env: { DATABASE_URL: url, NODE_ENV: undefined, NODE_TEST_CONTEXT: undefined, ...env },
  })
  const { code } = await child.exit
  return { code, output: child.stdout + child.stderr }
}
const migrateAndSeed = ['src/cli/main.ts', 'migrate', '--seed']

test('three instances that migrate and seed at once create one user and one of each product', async () => {
  const url = await newDatabase(server)
  const runs = await Promise.all([1, 2, 3].map(() => run(url, migrateAndSeed)))
  for (const { code, output } of runs) assert.equal(code, 0, output)
  const users = await query(url, 'SELECT email, password_hash FROM users')
  assert.equal(users.length, 1)
  assert.equal(users[0]?.email, 'test@example.com')
  assert.equal(await verifyPassword('password', String(users[0]?.password_hash)), true)
  const products = await query(url, 'SELECT sku FROM products')
  assert.equal(new Set(products.map(({ sku }) => sku)).size, products.length)
  assert.ok(products.length > 0)
})

test('seeding again changes nothing, also by `prisma db seed`', async () => {
  const url = await newDatabase(server)
  assert.equal((await run(url, migrateAndSeed)).code, 0)
  await query(url, "UPDATE users SET name = 'Renamed'; UPDATE products SET stock = 1")
  const before = await query(url, 'SELECT * FROM users JOIN products ON true ORDER BY sku')
  assert.equal((await run(url, ['prisma/seed.ts'])).code, 0)
  assert.deepEqual(await query(url, 'SELECT * FROM users JOIN products ON true ORDER BY sku'), before)
})

test('rejects seeding in production', async () => {
  const url = await newDatabase(server)
  const { code, output } = await run(url, migrateAndSeed, { NODE_ENV: 'production' })
  assert.equal(code, 1)
  assert.match(output, /FLEET_ERR_SEED_IN_PRODUCTION .*NODE_ENV/)
  assert.doesNotMatch(output, /\n {4}at /)
  assert.deepEqual(await query(url, 'SELECT * FROM users'), [], 'migrated, not seeded')
})
