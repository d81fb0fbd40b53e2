import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { before, test } from 'node:test'
import { WebSocket } from 'ws'
import { query } from '../database/databases.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { credentials, type Env, login, migrated, type Running, start } from './instances.ts'

let postgres: PostgresServer
let redis: RedisServer
let env: Env
let one: Running
let two: Running
before(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  await migrated(postgres.url)
  env = { DATABASE_URL: postgres.url, REDIS_URL: redis.url, FLEET_NAME: 'shop' }
  ;[one, two] = await Promise.all([start({ ...env, INSTANCE_ID: 'one' }), start({ ...env, INSTANCE_ID: 'two' })])
})

test('a login at one instance is valid on every instance, as session and as token', async () => {
  const { cookie, authorization, userId } = await login(one)
  for (const app of [one, two]) {
    for (const headers of [{ cookie }, { authorization }] as Record<string, string>[]) {
      const { status, json } = await app.send('/api/v1/me', { headers })
      assert.equal(status, 200)
      assert.deepEqual(json.user, { id: userId, email: 'test@example.com', name: 'Test User' })
    }
  }
  const { json, headers } = await two.send('/api/v1/me', { headers: { cookie } })
  assert.equal(json.servedBy, 'two')
  assert.equal(headers.get('x-stateless'), 'true')
})

test('a login creates a new session for any cookie', async () => {
  const first = await login(one)
  const second = await login(two, { cookie: first.cookie })
  assert.notEqual(first.cookie, second.cookie)
  assert.equal((await one.send('/api/v1/me', { headers: { cookie: first.cookie } })).status, 401)
  assert.equal((await one.send('/api/v1/me', { headers: { cookie: second.cookie } })).status, 200)
})

test('a logout at one instance ends session and tokens on every instance', async () => {
  const { cookie, authorization, refreshToken } = await login(one)
  const other = await login(one)
  assert.equal((await two.send('/api/v1/auth/logout', { method: 'POST', headers: { cookie } })).status, 204)
  for (const app of [one, two]) assert.equal((await app.send('/api/v1/me', { headers: { cookie } })).status, 401)
  await until(async () => (await one.send('/api/v1/me', { headers: { authorization } })).status === 401)
  const refreshed = await one.send('/api/v1/auth/refresh', { method: 'POST', body: { refreshToken } })
  assert.equal(refreshed.status, 401)
  assert.equal((await one.send('/api/v1/me', { headers: { cookie: other.cookie } })).status, 200)
  assert.equal((await one.send('/api/v1/auth/logout', { method: 'POST' })).status, 401)
})

test('a refresh token works once, on any instance; use by another client ends the session', async () => {
  const { refreshToken } = await login(one)
  const refresh = (app: Running, token: string, headers = {}) =>
    app.send('/api/v1/auth/refresh', { method: 'POST', body: { refreshToken: token }, headers })
  const fresh = await refresh(two, refreshToken)
  assert.equal(fresh.status, 200)
  const authorization = `Bearer ${fresh.json.accessToken}`
  assert.equal((await one.send('/api/v1/me', { headers: { authorization } })).status, 200)
  assert.deepEqual((await refresh(one, refreshToken)).json, fresh.json, 'a second tab')
  const again = await refresh(one, refreshToken, { 'user-agent': 'another client' })
  assert.deepEqual([again.status, again.json.code], [401, 'FLEET_ERR_TOKEN_REUSED'])
  assert.equal((await refresh(two, fresh.json.refreshToken)).status, 401)
})

test('responds alike to a wrong password and an unknown user', async () => {
  const attempt = async (body: object): Promise<unknown> => {
    const { status, json, headers } = await one.send('/api/v1/auth/login', { method: 'POST', body })
    assert.equal(headers.get('set-cookie'), null)
    return [status, json.code, json.message]
  }
  const known = await attempt({ ...credentials, password: 'wrong' })
  assert.deepEqual(known, await attempt({ email: 'nobody@example.com', password: 'password' }))
  assert.deepEqual((known as unknown[])[1], 'FLEET_ERR_LOGIN_FAILED')
  assert.equal(
    (await one.send('/api/v1/auth/login', { method: 'POST', body: { ...credentials, email: 'TEST@example.com' } }))
      .status,
    200,
  )
})

test('products are created, read, changed and deleted on different instances, and never stale', async () => {
  const { cookie, userId } = await login(one)
  const headers = { cookie }
  const sku = `SKU-${randomUUID()}`
  const made = await one.send('/api/v1/products', {
    method: 'POST',
    headers,
    body: { sku, name: 'Kettle', priceCents: 2990 },
  })
  assert.equal(made.status, 201)
  const path = made.headers.get('location') ?? ''
  assert.equal(path, `/api/v1/products/${made.json.id}`)
  assert.equal(made.json.stock, 0)
  const [row] = await query(postgres.url, `SELECT created_by_id FROM products WHERE sku = '${sku}'`)
  assert.equal(row?.created_by_id, userId)
  for (const app of [one, two]) assert.deepEqual((await app.send(path)).json, made.json)

  const changed = await two.send(path, { method: 'PATCH', headers, body: { stock: 7 } })
  assert.deepEqual([changed.status, changed.json.stock, changed.json.name], [200, 7, 'Kettle'])
  for (const app of [two, one]) await until(async () => (await app.send(path)).json.stock === 7)

  const twice = await two.send('/api/v1/products', {
    method: 'POST',
    headers,
    body: { sku, name: 'Other', priceCents: 1 },
  })
  assert.deepEqual([twice.status, twice.json.code], [409, 'FLEET_ERR_RECORD_EXISTS'])

  assert.equal((await one.send(path, { method: 'DELETE', headers })).status, 204)
  for (const app of [one, two]) await until(async () => (await app.send(path)).status === 404)
  for (const method of ['DELETE', 'PATCH']) {
    const gone = await two.send(path, { method, headers, ...(method === 'PATCH' && { body: { stock: 1 } }) })
    assert.deepEqual([gone.status, gone.json.code], [404, 'FLEET_ERR_RECORD_UNKNOWN'])
  }
})

test('the list of products is paged and follows changes', async () => {
  const { cookie } = await login(two)
  const add = async (name: string): Promise<void> => {
    const body = { sku: randomUUID(), name, priceCents: 1 }
    assert.equal((await two.send('/api/v1/products', { method: 'POST', headers: { cookie }, body })).status, 201)
  }
  const all = async (app: Running): Promise<string[]> => {
    const names: string[] = []
    for (let after = ''; ; ) {
      const { json } = await app.send(`/api/v1/products?limit=2${after && `&after=${after}`}`)
      names.push(...json.products.map(({ name }: { name: string }) => name))
      if (json.next === undefined) return names
      after = json.next
    }
  }
  const before = await all(one)
  assert.ok(before.length >= 4, 'the samples are there')
  await add('First')
  await until(async () => (await all(one)).join() === [...before, 'First'].join())
})

test('the dashboard is computed once for both instances', async () => {
  const { cookie } = await login(one)
  const { cookie: other } = await login(two)
  const first = await one.send('/api/v1/dashboard', { headers: { cookie } })
  assert.equal(first.status, 200)
  assert.ok(first.json.summary.products >= 4)
  const second = await two.send('/api/v1/dashboard', { headers: { cookie: other } })
  assert.equal(second.json.countedAt, first.json.countedAt)
  assert.deepEqual([first.json.servedBy, second.json.servedBy], ['one', 'two'])
})

async function join(app: Running): Promise<{ socket: WebSocket; received: Record<string, string>[] }> {
  const socket = new WebSocket(`${app.url.replace('http', 'ws')}/ws`)
  const received: Record<string, string>[] = []
  socket.on('message', (data) => received.push(JSON.parse(String(data))))
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  return { socket, received }
}

test('a chat message reaches every instance, by WebSocket and by event stream', async () => {
  const [here, there] = await Promise.all([join(one), join(two)])
  const stop = new AbortController()
  const events = await fetch(`${two.url}/events`, { signal: stop.signal })
  assert.match(events.headers.get('content-type') ?? '', /^text\/event-stream/)
  assert.equal(events.headers.get('cache-control'), 'no-store')
  let streamed = ''
  const reading = (async () => {
    for await (const chunk of events.body as AsyncIterable<Uint8Array>) streamed += Buffer.from(chunk).toString()
  })().catch(() => {})
  await until(() => streamed.includes('event: hello'))

  here.socket.send(JSON.stringify({ text: 'hello over there' }))
  for (const { received } of [here, there])
    await until(() => received.some(({ text, from }) => text === 'hello over there' && from === 'one'))
  await until(() => /event: message\ndata: .*hello over there/.test(streamed))

  for (const wrong of [
    'no json',
    '{}',
    '{"text":""}',
    '{"text":5}',
    JSON.stringify({ text: 'x'.repeat(1001) }),
    'null',
  ])
    here.socket.send(wrong)
  here.socket.send(Buffer.from('{"text":"binary"}'), { binary: true })
  await until(() => here.received.filter(({ code }) => code === 'FLEET_ERR_REQUEST_INVALID').length === 7)
  assert.equal(there.received.length, 1)

  const closed = new Promise<number>((resolve) => here.socket.once('close', resolve))
  here.socket.send('x'.repeat(100_000))
  assert.equal(await closed, 1009, 'message too big')
  there.socket.close()
  stop.abort()
  await reading
})

test('responds to bad input with a 4xx as JSON with a code, never a stack', async () => {
  const { cookie, authorization } = await login(one)
  const signed = { cookie }
  const product = { sku: 'x', name: 'x', priceCents: 1 }
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) => ({
    path,
    method: 'POST',
    body,
    headers,
  })
  const id = randomUUID()
  const cases: [number, string, { path: string; method?: string; body?: unknown; headers?: Record<string, string> }][] =
    [
      [404, 'FLEET_ERR_ROUTE_UNKNOWN', { path: '/no/such/path' }],
      [404, 'FLEET_ERR_ROUTE_UNKNOWN', { path: '/work', method: 'POST', body: {} }],
      [404, 'FLEET_ERR_ROUTE_UNKNOWN', { path: '/static/../../../package.json' }],
      [404, 'FLEET_ERR_ROUTE_UNKNOWN', { path: '/static/%2e%2e/main.ts' }],
      [400, '', { path: '/%' }],
      [400, 'FLEET_ERR_REQUEST_INVALID', { path: '/ws' }],
      [401, 'FLEET_ERR_TOKEN_MISSING', { path: '/api/v1/me' }],
      [401, 'FLEET_ERR_TOKEN_MISSING', { path: '/api/v1/dashboard', headers: { cookie: `${cookie}x` } }],
      [401, 'FLEET_ERR_TOKEN_MISSING', { path: '/api/v1/me', headers: { cookie: 'fleet.sid=%00;;=; fleet.sid' } }],
      [401, 'FLEET_ERR_TOKEN_INVALID', { path: '/api/v1/me', headers: { authorization: `${authorization}x` } }],
      [
        401,
        'FLEET_ERR_TOKEN_INVALID',
        { path: '/api/v1/me', headers: { ...signed, authorization: 'Bearer nonsense' } },
      ],
      [401, 'FLEET_ERR_TOKEN_MISSING', { path: '/api/v1/me', headers: { authorization: 'Basic dXNlcjpwYXNz' } }],
      [401, 'FLEET_ERR_TOKEN_MISSING', post('/api/v1/products', product)],
      [401, 'FLEET_ERR_TOKEN_INVALID', post('/api/v1/auth/refresh', { refreshToken: 'x' })],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/auth/login', {})],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/auth/login', { email: 5, password: 'x' })],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/auth/login', { email: 'no address', password: 'x' })],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/auth/login', { email: ['a@b.cd'], password: { $ne: 1 } })],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/auth/login', { ...credentials, password: 'x'.repeat(1025) })],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/auth/login', [])],
      [400, 'FST_ERR_VALIDATION', { path: '/api/v1/auth/login', method: 'POST' }],
      [400, '', post('/api/v1/auth/login', '{"email":')],
      [400, '', post('/api/v1/auth/login', '{"__proto__":{"x":1},"email":"a@b.cd","password":"x"}')],
      [415, 'FST_ERR_CTP_INVALID_MEDIA_TYPE', post('/echo', '<x/>', { 'content-type': 'text/xml' })],
      [413, 'FST_ERR_CTP_BODY_TOO_LARGE', post('/echo', { text: 'x'.repeat(300_000) })],
      [400, 'FST_ERR_VALIDATION', { path: '/api/v1/products/no-uuid' }],
      [404, 'FLEET_ERR_RECORD_UNKNOWN', { path: `/api/v1/products/${id}` }],
      [400, 'FST_ERR_VALIDATION', { path: '/api/v1/products?limit=x' }],
      [400, 'FLEET_ERR_REQUEST_INVALID', { path: '/api/v1/products?limit=0' }],
      [400, 'FLEET_ERR_REQUEST_INVALID', { path: '/api/v1/products?limit=101' }],
      [400, 'FST_ERR_VALIDATION', { path: '/api/v1/products?after=1' }],
      [400, 'FST_ERR_VALIDATION', { path: '/api/v1/products?unknown=1' }],
      [400, 'FST_ERR_VALIDATION', { path: '/api/v1/products?limit=1&limit=2' }],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/products', { ...product, priceCents: '1' }, signed)],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/products', { ...product, priceCents: 1.5 }, signed)],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/products', { ...product, priceCents: -1 }, signed)],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/products', { ...product, priceCents: 2 ** 31 }, signed)],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/products', { ...product, name: 'zero\0byte' }, signed)],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/products', { ...product, admin: true }, signed)],
      [400, 'FST_ERR_VALIDATION', post('/api/v1/products', { ...product, sku: '' }, signed)],
      [400, 'FST_ERR_VALIDATION', { path: `/api/v1/products/${id}`, method: 'PATCH', body: {}, headers: signed }],
      [400, 'FST_ERR_VALIDATION', { path: `/api/v1/products/${id}`, method: 'PATCH', body: { id }, headers: signed }],
      [400, 'FST_ERR_VALIDATION', { path: '/work?ms=-1' }],
      [400, 'FST_ERR_VALIDATION', { path: '/work?ms=1e3' }],
      [400, 'FLEET_ERR_REQUEST_INVALID', { path: '/work?ms=30001' }],
    ]
  for (const [status, code, { path, ...options }] of cases) {
    const response = await one.send(path, options)
    const what = `${options.method ?? 'GET'} ${path} ${JSON.stringify(options.body)?.slice(0, 80)}: ${response.text.slice(0, 300)}`
    assert.equal(response.status, status, what)
    assert.equal(response.json?.statusCode, status, what)
    assert.equal(typeof response.json.code, 'string', what)
    if (code) assert.equal(response.json.code, code, what)
    assert.doesNotMatch(response.text, /stack|node_modules|\.ts:|prisma|ioredis/i, what)
  }
})

test('serves /work, /echo and the pages', async () => {
  assert.deepEqual((await one.send('/work?ms=5')).json, { ms: 5, servedBy: 'one' })
  assert.deepEqual((await one.send('/work')).json, { ms: 0, servedBy: 'one' })
  for (const body of [{ a: [1, null] }, [1], 'text', 5, null])
    assert.deepEqual((await two.send('/echo', { method: 'POST', body: JSON.stringify(body) })).json, {
      body,
      servedBy: 'two',
    })
  assert.deepEqual((await two.send('/echo', { method: 'POST' })).json, { body: null, servedBy: 'two' })
  const root = await one.send('/')
  assert.deepEqual([root.status, root.headers.get('location')], [302, '/static/'])
  for (const [path, type] of [
    ['', 'html'],
    ['page.css', 'css'],
    ['page.js', 'javascript'],
  ]) {
    const page = await one.send(`/static/${path}`)
    assert.equal(page.status, 200)
    assert.match(page.headers.get('content-type') ?? '', new RegExp(`${type}`))
    assert.match(page.headers.get('cache-control') ?? '', /max-age=300/)
    const etag = page.headers.get('etag') ?? ''
    // Without the second header fetch requests a fresh one.
    const known = { 'if-none-match': etag, 'cache-control': 'max-age=0' }
    assert.equal((await two.send(`/static/${path}`, { headers: known })).status, 304)
  }
})

test('limits logins across all instances', async () => {
  const limited = await start({ ...env, FLEET_NAME: 'limited' })
  const other = await start({ ...env, FLEET_NAME: 'limited' })
  const attempt = async (i: number): Promise<number> => {
    const app = i % 2 ? limited : other
    return (await app.send('/api/v1/auth/refresh', { method: 'POST', body: { refreshToken: 'x' } })).status
  }
  const statuses: number[] = []
  for (let i = 0; i < 40; i++) statuses.push(await attempt(i))
  assert.deepEqual(statuses, [...Array(30).fill(401), ...Array(10).fill(429)])
  const rejected = await limited.send('/api/v1/auth/login', { method: 'POST', body: credentials })
  assert.equal(rejected.status, 429)
  assert.ok(Number(rejected.headers.get('retry-after')) > 0)
})
