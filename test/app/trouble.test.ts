import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { before, test } from 'node:test'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { credentials, fork, listening, login, migrated, start } from './instances.ts'

let postgres: PostgresServer
let redis: RedisServer
before(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis({ appendonly: true })])
  await migrated(postgres.url)
})

test('starts and works without servers, and reports that it is not stateless', async () => {
  const app = await start({})
  const { cookie, authorization } = await login(app)
  for (const headers of [{ cookie }, { authorization }] as Record<string, string>[])
    assert.equal((await app.send('/api/v1/me', { headers })).json.user.email, credentials.email)
  assert.ok((await app.send('/api/v1/products')).json.products.length > 0)
  const { headers } = await app.send('/live')
  assert.equal(headers.get('x-stateless'), 'false')
  assert.match(app.child.stdout, /users and products are stored in the memory of this process/)
  const config = (await app.send('/api/v1/load-balancer/health')).json
  assert.equal(config.loadBalancer.stateless, false)
})

test('reports that it is not stateless with sessions in Redis and records in memory', async () => {
  const app = await start({ REDIS_URL: redis.url, FLEET_NAME: 'half' })
  assert.equal((await app.send('/live')).headers.get('x-stateless'), 'false')
})

test('in production it rejects records in memory and creates no test user', async () => {
  const production = { NODE_ENV: 'production', REDIS_URL: redis.url, FLEET_NAME: 'production' }
  const rejected = fork(production)
  assert.equal((await rejected.exit).code, 1)
  assert.match(rejected.stderr, /^FLEET_ERR_MEMORY_IN_PRODUCTION .*DATABASE_URL/m)
  assert.doesNotMatch(rejected.stderr, /\n {4}at /)
  const allowed = await start({ ...production, FLEET_ALLOW_MEMORY: 1, DRAIN_DELAY: 0 })
  const { status } = await allowed.send('/api/v1/auth/login', { method: 'POST', body: credentials })
  assert.equal(status, 401)
})

test('reports an invalid environment in one line', async () => {
  const cases = [
    [{ PORT: 'http' }, /^FLEET_ERR_ENV_INVALID .*PORT/m],
    [{ DATABASE_URL: 'mysql://x' }, /^FLEET_ERR_ENV_INVALID .*DATABASE_URL/m],
    [{ SESSION_SECRET: 'short' }, /^FLEET_ERR_SECRET_WEAK .*SESSION_SECRET/m],
  ] as const
  await Promise.all(
    cases.map(async ([env, message]) => {
      const app = fork(env)
      assert.equal((await app.exit).code, 1)
      assert.match(app.stderr, message)
      assert.doesNotMatch(app.stderr, /\n {4}at /)
    }),
  )
})

test('without the database it is live, not ready, responds 503 where needed, and recovers', async () => {
  await postgres.stop()
  const app = await listening({ DATABASE_URL: postgres.url, REDIS_URL: redis.url, FLEET_NAME: 'away' })
  await until(async () => (await app.send('/ready')).json.reason === 'failed: database')
  assert.equal((await app.send('/live')).status, 200)
  const unavailable = async (path: string, options: object = {}): Promise<void> => {
    const { status, json, text, headers } = await app.send(path, options)
    assert.deepEqual([status, json.code], [503, 'FLEET_ERR_DATABASE_UNAVAILABLE'], path)
    assert.equal(headers.get('retry-after'), '1')
    assert.doesNotMatch(text, /127\.0\.0\.1|P1001|prisma/i)
  }
  await unavailable('/api/v1/products')
  await unavailable('/api/v1/auth/login', { method: 'POST', body: credentials })

  await postgres.restart()
  await until(async () => (await app.send('/ready')).status === 200)
  const { cookie } = await login(app)
  const headers = { cookie }
  assert.equal((await app.send('/api/v1/dashboard', { headers })).status, 200)
  await postgres.kill()
  assert.equal((await app.send('/api/v1/dashboard', { headers })).status, 200, 'from the cache')
  await unavailable(`/api/v1/products/${randomUUID()}`)
  await unavailable('/api/v1/products', { method: 'POST', headers, body: { sku: 'x', name: 'x', priceCents: 1 } })
  await postgres.restart()
  await until(async () => (await app.send(`/api/v1/products/${randomUUID()}`)).status === 404)
})

test('without Redis it responds 503 where a session is needed, and sessions survive', async () => {
  const app = await start({ DATABASE_URL: postgres.url, REDIS_URL: redis.url, FLEET_NAME: 'redis-away' })
  const { cookie } = await login(app)
  await redis.stop()
  const me = await app.send('/api/v1/me', { headers: { cookie } })
  assert.deepEqual([me.status, me.json.code], [503, 'FLEET_ERR_STATE_UNAVAILABLE'])
  assert.ok(me.headers.get('retry-after'))
  assert.equal((await app.send('/live')).status, 200)
  for (const path of ['/live', '/health', '/work?ms=1', '/api/v1/products', '/static/', '/'])
    assert.ok((await app.send(path, { headers: { cookie } })).status < 400, path)
  await redis.restart()
  await until(async () => (await app.send('/api/v1/me', { headers: { cookie } })).status === 200)
})

test('reads use the replicas in DATABASE_REPLICA_URLS and survive their loss', async () => {
  const replica = await startPostgres({ replicaOf: postgres })
  const env = {
    DATABASE_URL: postgres.url,
    DATABASE_REPLICA_URLS: replica.url,
    REDIS_URL: redis.url,
    FLEET_NAME: 'replicas',
  }
  const app = await start(env)
  await app.child.waitFor(/the replica responds/)
  const { cookie } = await login(app)
  /** The number of products, counted after a change, which the cached one does not survive. */
  const counted = async (sku: string): Promise<number> => {
    const body = { sku, name: sku, priceCents: 1 }
    const made = await app.send('/api/v1/products', { method: 'POST', headers: { cookie }, body })
    assert.equal(made.status, 201, JSON.stringify(made.json))
    const { status, json } = await app.send('/api/v1/dashboard', { headers: { cookie } })
    assert.equal(status, 200)
    return json.summary.products
  }
  const before = await counted('with-a-replica')
  await replica.kill()
  await app.child.waitFor(/the replica does not respond/)
  assert.equal(await counted('without-a-replica'), before + 1)
  await replica.restart()
})

test('on SIGTERM, in-flight requests end, sockets and streams are notified, and the exit code is 0', async () => {
  const app = await start({ DATABASE_URL: postgres.url, REDIS_URL: redis.url, FLEET_NAME: 'leaving' })
  const { WebSocket } = await import('ws')
  const socket = new WebSocket(`${app.url.replace('http', 'ws')}/ws`)
  await new Promise((resolve) => socket.once('open', resolve))
  const closed = new Promise<number>((resolve) => socket.once('close', resolve))
  const events = await fetch(`${app.url}/events`)
  const streamed = events.text()
  const slow = app.send('/work?ms=500')
  await until(async () => (await app.send('/ready')).status === 200)
  process.kill(app.child.pid, 'SIGTERM')
  assert.equal((await slow).status, 200)
  assert.equal(await closed, 1012)
  assert.match(await streamed, /event: shutdown/)
  assert.deepEqual(await app.child.exit, { code: 0, signal: null })
})
