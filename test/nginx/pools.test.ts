import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { until } from '../helpers/until.ts'
import { startUpstream, targets } from '../helpers/upstream.ts'
import { type Ask, check, type Front, render, startFront, tally } from './front.ts'

const [main, main2, v2, v2b, heavy, shop, shopApi] = [
  await startUpstream('main'),
  await startUpstream('main2'),
  await startUpstream('v2'),
  await startUpstream('v2b'),
  await startUpstream('heavy'),
  await startUpstream('shop'),
  await startUpstream('shop-api'),
]
const pools = {
  FLEET_TARGETS: main.target,
  FLEET_POOLS: 'v2 heavy shop shop-api',
  FLEET_POOL_V2_TARGETS: v2.target,
  FLEET_POOL_HEAVY_TARGETS: heavy.target,
  FLEET_POOL_SHOP_TARGETS: shop.target,
  FLEET_POOL_SHOP_API_TARGETS: shopApi.target,
  FLEET_ROUTES: [
    '/api/v2=v2, /api/heavy/=heavy',
    '/api/v2/public=default\n/events=heavy',
    '//Shop.example.com=shop //shop.example.com/api=shop-api',
    'X-Version:2=v2 x-tier:Gold=heavy',
  ].join(' '),
}
const front = await startFront(pools)

const by = async (path: string, headers: Record<string, string> = {}, ask: Ask = {}): Promise<string | number> => {
  const response = await front.send(path, { ...ask, headers })
  return response.by ?? response.status
}

test('a path prefix chooses the pool, the longest first', async () => {
  for (const [path, pool] of [
    ['/', 'main'],
    ['/api', 'main'],
    ['/api/v1', 'main'],
    ['/api/v20', 'main'],
    ['/api/v2.0/x', 'main'],
    ['/x/api/v2', 'main'],
    ['/?/api/v2', 'main'],
    ['/api/v2', 'v2'],
    ['/api/v2?a', 'v2'],
    ['/api/v2/', 'v2'],
    ['/api/v2/a/b?c=d', 'v2'],
    ['/api/v2/auth/login', 'v2'],
    ['/api/v2/public', 'main'],
    ['/api/v2/public/x', 'main'],
    ['/api/v2/publicx', 'v2'],
    ['/api/heavy', 'heavy'],
    ['/api/heavy/report', 'heavy'],
    ['/events', 'heavy'],
    ['/static/api/v2', 'main'],
  ] as const) {
    for (const method of ['GET', 'POST', 'DELETE'])
      assert.equal(await by(path, {}, { method }), pool, `${method} ${path}`)
  }
})

test('every spelling of a path that an instance could route there reaches its pool, unchanged', async () => {
  for (const path of [
    '/%61pi/v2',
    '/%61%70%69/%76%32/x',
    '//api/v2',
    '/api//v2',
    '/API/V2/x',
    '/api%2Fv2/x',
    '/api/v2%2Fx',
    '/api\\v2',
    '/api;a=b/v2;c/x',
    '/api/v2;a',
    '/api/v2#x',
    '/api/v2/a%20b?c=%2F',
    `http://127.0.0.1:${front.port}/api/v2/x`,
  ]) {
    assert.equal(await by(path), 'v2', path)
    assert.equal(v2.seen.at(-1)?.path, path.replace(/^http:..[^/]*/, ''), path)
  }
  for (const path of [
    '/api/v2/../x',
    '/x/../api/v2',
    '/x/%2e%2e/api/v2',
    '/api/v2/..;/x',
    '/api/v2/.%2e/x',
    '/x%2f..%2fapi/v2',
  ])
    assert.equal(await by(path), 404, path)
  // The internal locations of a pool.
  for (const path of [
    '/.fleet/v2/site',
    '/.fleet/default/auth',
    '/.fleet/v2/',
    '/%2efleet/v2/site',
    '/.fleet/_files/x',
  ])
    assert.equal(await by(path), 404, path)
  // Operators' paths have no pool.
  for (const path of ['/metrics', '/api/v1/load-balancer/drain'])
    assert.equal(await by(path, { 'x-version': '2' }), 404)
})

test('a host chooses the pool, with any port and in any letter case', async () => {
  for (const host of ['shop.example.com', 'SHOP.example.com:8443', 'shop.example.com.']) {
    assert.equal(await by('/', { host }), 'shop', host)
    assert.equal(await by('/api/v2', { host }), 'shop-api', host)
    assert.equal(await by('//API/x', { host }), 'shop-api', host)
    assert.equal(await by('/apix', { host }), 'shop', host)
    assert.equal(await by('/health', { host }), 'shop', host)
  }
  for (const host of ['example.com', 'xshop.example.com', 'shop.example.com.evil.test', 'shopxexample.com'])
    assert.equal(await by('/', { host }), 'main', host)
  // The request line takes precedence, as for instances.
  assert.equal(await by('http://shop.example.com/', { host: 'x' }), 'shop')
  assert.equal(shop.seen.at(-1)?.headers.host, 'shop.example.com')
})

test('a header with exactly this value chooses the pool, before hosts and paths, in the listed order', async () => {
  assert.equal(await by('/', { 'x-version': '2' }), 'v2')
  assert.equal(await by('/', { 'X-VERSION': '2' }), 'v2')
  for (const value of ['20', '12', 'v2', '']) assert.equal(await by('/', { 'x-version': value }), 'main', value)
  assert.equal(await by('/', { 'x-tier': 'Gold' }), 'heavy')
  assert.equal(await by('/', { 'x-tier': 'gold' }), 'main')
  assert.equal(await by('/', { 'x-tier': 'Gold', 'x-version': '2' }), 'v2')
  assert.equal(await by('/api/heavy', { host: 'shop.example.com', 'x-version': '2' }), 'v2')
})

test('a dead pool responds 503 for its own paths and receives nothing else', async () => {
  await v2.stop()
  const seen = [main, heavy, shop].map((each) => each.seen.length)
  for (const method of ['GET', 'POST']) {
    for (let turn = 0; turn < 5; turn++) {
      const { status, body, headers } = await front.send('/api/v2/x', { method })
      const { statusCode, code } = JSON.parse(body)
      assert.deepEqual([status, statusCode, code], [503, 503, 'LB_ERR_UNAVAILABLE'])
      assert.match(String(headers['retry-after']), /^\d+$/)
    }
  }
  assert.deepEqual(
    [main, heavy, shop].map((each) => each.seen.length),
    seen,
  )
  assert.deepEqual(await tally(10, () => front.send('/')), { main: 10 })
  await v2.start()
  assert.deepEqual(await tally(10, () => front.send('/api/v2')), { v2: 10 })
})

test('the last resort of a pool is its own instances', async () => {
  const own = await startFront({
    ...pools,
    FLEET_TARGETS: targets(main, main2),
    FLEET_POOL_V2_TARGETS: targets(v2, v2b),
    FLEET_FAIL_TIMEOUT: '60s',
    FLEET_WORKERS: 1,
  })
  await v2.stop()
  await v2b.stop()
  assert.equal((await own.send('/api/v2')).status, 503)
  await v2b.start()
  assert.deepEqual(await tally(10, () => own.send('/api/v2')), { v2b: 10 })
  assert.deepEqual(await tally(10, () => own.send('/')), { main: 5, main2: 5 })
  await v2.start()
})

test('a pool has its own policy, limits, timeouts, canary and maintenance', async () => {
  const own = await startFront({
    ...pools,
    FLEET_BODY_MAX: '1k',
    FLEET_POOL_V2_TARGETS: `${v2.target}=3 ${v2b.target}`,
    FLEET_POOL_V2_BODY_MAX: '10k',
    FLEET_POOL_HEAVY_BODY_MAX: '100',
    FLEET_POOL_HEAVY_READ_TIMEOUT: '500ms',
    FLEET_POOL_SHOP_RATE: '1r/m',
    FLEET_POOL_SHOP_BURST: 4,
    FLEET_POOL_SHOP_API_CANARY_TARGETS: main2.target,
    FLEET_POOL_SHOP_API_CANARY_PERCENT: 1,
    FLEET_POOL_SHOP_API_POLICY: 'sticky',
    FLEET_POOL_HEAVY_MAINTENANCE: join(front.folder, 'heavy-maintenance'),
    FLEET_WORKERS: 1,
  })
  const host = { host: 'shop.example.com' }
  assert.deepEqual(await tally(40, () => own.send('/api/v2')), { v2: 30, v2b: 10 })

  const sized = async (path: string, size: number, headers: Record<string, string> = {}): Promise<number> =>
    (await own.send(path, { method: 'POST', body: 'x'.repeat(size), headers })).status
  for (const headers of [{}, { 'transfer-encoding': 'chunked' }] as Record<string, string>[]) {
    assert.deepEqual([await sized('/', 1024, headers), await sized('/', 1025, headers)], [200, 413])
    assert.deepEqual([await sized('/api/v2', 10_240, headers), await sized('/api/v2', 10_241, headers)], [200, 413])
    assert.deepEqual([await sized('/api/heavy', 100, headers), await sized('/api/heavy', 101, headers)], [200, 413])
  }

  const many = await Promise.all(Array.from({ length: 8 }, () => own.send('/', { headers: host })))
  assert.equal(many.filter(({ status }) => status === 429).length, 3)
  assert.equal((await own.send('/')).status, 200)
  assert.equal((await own.send('/api/x', { headers: host })).status, 200, 'another pool')

  const cookie = (side: string): Record<string, string> => ({ ...host, cookie: `fleet_canary=${side}` })
  const sticky = await own.send('/api/x', { headers: cookie('always') })
  assert.equal(sticky.by, 'main2')
  assert.match(sticky.headers['set-cookie']?.[0] ?? '', /^fleet_route=/)
  assert.equal((await own.send('/api/x', { headers: cookie('never') })).by, 'shop-api')
  assert.equal((await own.send('/', { headers: { cookie: 'fleet_canary=always' } })).by, 'main')
  assert.equal((await own.send('/')).headers['set-cookie'], undefined)

  await writeFile(join(front.folder, 'heavy-maintenance'), '')
  assert.equal((await own.send('/api/heavy')).status, 503)
  assert.equal((await own.send('/')).status, 200)
  await rm(join(front.folder, 'heavy-maintenance'))

  heavy.handler = () => {}
  assert.equal((await own.send('/api/heavy', { method: 'POST' })).status, 504)
  heavy.handler = (_request, response) => response.end('ok')

  await until(() => own.log().some(({ status }) => status === 504), { what: 'the log' })
  const logged = (pool: string): Record<string, string | number>[] => own.log().filter((line) => line.pool === pool)
  assert.ok(logged('heavy').every(({ path }) => path === '/api/heavy'))
  assert.ok(logged('v2').length >= 40 && logged('v2').every(({ path }) => path === '/api/v2'))
  assert.deepEqual(
    new Set(logged('shop-api').map((line) => line.upstream_name)),
    new Set(['fleet_shop_api', 'canary_shop_api']),
  )
})

test('a pool serves WebSockets, event streams and a cached /static/', async () => {
  const sockets = new WebSocketServer({ noServer: true })
  shop.onUpgrade((request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (client) => client.on('message', (data) => client.send(`> ${data}`)))
  })
  const host = { host: 'shop.example.com' }
  const client = new WebSocket(`ws://127.0.0.1:${front.port}/ws`, { headers: host })
  const received = await new Promise((resolve, reject) => {
    client.on('open', () => client.send('hello'))
    client.on('message', (data) => resolve(String(data)))
    client.on('error', reject)
  })
  assert.equal(received, '> hello')
  client.terminate()

  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  heavy.handler = async (_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: first\n\n')
    await released
    response.end('data: last\n\n')
  }
  const response = await fetch(`${front.url}/events`)
  const reader = response.body?.getReader() ?? assert.fail()
  assert.equal(Buffer.from((await reader.read()).value ?? '').toString(), 'data: first\n\n')
  release()
  await reader.read()
  heavy.handler = (_request, response) => response.end('ok')

  const state = async (headers: Record<string, string>): Promise<unknown[]> => {
    const { by, headers: sent } = await front.send('/static/a.css', { headers })
    return [by, sent['x-cache-status']]
  }
  assert.deepEqual(await state({}), ['main', 'MISS'])
  assert.deepEqual(await state(host), ['shop', 'MISS'])
  assert.deepEqual(await state({ 'x-version': '2' }), ['v2', 'MISS'])
  assert.deepEqual(await state({}), ['main', 'HIT'])
  assert.deepEqual(await state(host), ['shop', 'HIT'])
})

test('/ws and /events below the path of a route may be idle, and logins stay limited', async () => {
  const own = await startFront({ ...pools, FLEET_READ_TIMEOUT: '200ms', FLEET_AUTH_RATE: '1r/m', FLEET_AUTH_BURST: 1 })
  const held: (() => void)[] = []
  v2.handler = (_request, response) => void held.push(() => response.end('late'))
  const [events, other] = [own.send('/API/v2/events?x'), own.send('/api/v2/other', { method: 'POST' })]
  assert.equal((await other).status, 504)
  await until(() => held.length === 2, { what: 'both requests' })
  for (const release of held) release()
  assert.deepEqual([(await events).body, (await events).by], ['late', 'v2'])
  v2.handler = (_request, response) => response.end('ok')
  const login = async (path: string): Promise<number> => (await own.send(path)).status
  const paths = ['/api/auth', '/api/auth/ws', '/api/v1/auth/events', '/api/v2/auth/login;/ws']
  assert.deepEqual(await Promise.all(paths.map(login)).then((all) => all.filter((status) => status === 429).length), 2)
})

test('an instance cannot send a request to another pool or past a limit', async () => {
  main.handler = (_request, response) => response.setHeader('X-Accel-Redirect', '/.fleet/v2/site').end('own')
  const { by, body } = await front.send('/')
  assert.deepEqual([by, body], ['main', 'own'])
  main.handler = (_request, response) => response.end('ok')
})

test('logins share one limit, whatever pool they are sent to', async () => {
  const own: Front = await startFront({ ...pools, FLEET_AUTH_RATE: '1r/m', FLEET_AUTH_BURST: 2 })
  const login = async (headers: Record<string, string>): Promise<number> =>
    (await own.send('/api/v1/auth/login', { method: 'POST', headers })).status
  const statuses = []
  for (const headers of [{}, { 'x-version': '2' }, { host: 'shop.example.com' }, { 'x-tier': 'Gold' }, {}])
    statuses.push(await login(headers as Record<string, string>))
  assert.deepEqual(statuses, [200, 200, 200, 429, 429])
})

test('nginx accepts raw `server` lines for each pool', async () => {
  const folder = await render({
    FLEET_SERVERS: 'server 127.0.0.1:1 max_fails=2 fail_timeout=3s; server 127.0.0.1:2 backup;',
    FLEET_POOLS: 'a-b',
    FLEET_POOL_A_B_SERVERS: 'server 127.0.0.1:3;',
    FLEET_ROUTES: '/=a-b',
  })
  assert.equal(await check(folder), undefined)
})

test('rejects a wrong setting with a message that names it', async () => {
  const base = { FLEET_TARGETS: main.target, FLEET_POOLS: 'v2', FLEET_POOL_V2_TARGETS: v2.target }
  for (const [values, message] of [
    [{ FLEET_ROUTES: '/x=v3' }, /FLEET_ROUTES: unknown pool "v3" in \/x=v3/],
    [{ FLEET_ROUTES: '/x' }, /FLEET_ROUTES: a route is MATCH=POOL, got \/x/],
    [{ FLEET_ROUTES: 'x=v2' }, /FLEET_ROUTES: a match is .* got x=v2/],
    [{ FLEET_ROUTES: 'x_y:1=v2' }, /FLEET_ROUTES: a match is /],
    [{ FLEET_ROUTES: '/a/../b=v2' }, /FLEET_ROUTES: a path .* got \/a\/\.\.\/b=v2/],
    [{ FLEET_ROUTES: '/%61=v2' }, /FLEET_ROUTES: a path is decoded/],
    [{ FLEET_ROUTES: '//a:80=v2' }, /FLEET_ROUTES: a host /],
    [{ FLEET_ROUTES: '/a=v2 /A/=default' }, /FLEET_ROUTES: \/A\/ is routed twice/],
    [{ FLEET_POOLS: 'v2 2x' }, /FLEET_POOLS: a name .* got '2x'/],
    [{ FLEET_POOLS: 'v2 other' }, /FLEET_POOL_OTHER_TARGETS must list the instances/],
    [{ FLEET_POOL_V3_TARGETS: 'x' }, /FLEET_POOL_V3_TARGETS is set, but FLEET_POOLS has no such pool/],
    [{ FLEET_POOL_V2_RATE: '100' }, /FLEET_POOL_V2_RATE must be a rate such as 100r\/s or 30r\/m, got 100/],
    [{ FLEET_POOL_V2_POLICY: 'x' }, /FLEET_POOL_V2_POLICY must be one of .*least-conn.*, got x/],
    [{ FLEET_POOL_V2_BODY_MAX: '1; x' }, /FLEET_POOL_V2_BODY_MAX must be a size such as 10m/],
    [{ FLEET_BURST: '0' }, /FLEET_BURST must be a number of requests from 1, got 0/],
    [{ FLEET_SERVERS: 'server x;' }, /FLEET_TARGETS and FLEET_SERVERS are both set/],
    [{ FLEET_STATIC_SPA: 'on' }, /FLEET_STATIC_SPA=on needs FLEET_STATIC_ROOT/],
    [{ FLEET_STATIC_ROOT: 'public' }, /FLEET_STATIC_ROOT must be the absolute path/],
  ] as const) {
    await assert.rejects(render({ ...base, ...values }), message)
  }
})
