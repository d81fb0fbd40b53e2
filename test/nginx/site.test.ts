import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'
import { startUpstream, targets } from '../helpers/upstream.ts'
import { sendRequest, startFront } from './front.ts'

const app = await startUpstream('app')
const front = await startFront({ FLEET_TARGETS: app.target })

test('an instance receives client information from nginx only', async () => {
  const forged = Object.fromEntries(
    ['x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-forwarded-port', 'x-real-ip', 'x-request-id'].map(
      (name) => [name, '6.6.6.6'],
    ),
  )
  const more = { forwarded: 'for=6.6.6.6', via: '1.1 me', proxy: 'me', 'x-fleet-retry': '0', connection: 'x-real-ip' }
  const response = await front.send('/a?b=%2F', { headers: { ...forged, ...more } })
  const { path, headers } = app.seen.at(-1) ?? assert.fail()
  assert.equal(path, '/a?b=%2F')
  assert.doesNotMatch(JSON.stringify(headers), /6\.6\.6\.6/)
  assert.equal(headers['x-forwarded-for'], '127.0.0.1')
  assert.equal(headers['x-forwarded-proto'], 'http')
  assert.equal(headers['x-forwarded-port'], String(front.port))
  assert.equal(headers['x-forwarded-host'], `127.0.0.1:${front.port}`)
  assert.equal(headers.host, `127.0.0.1:${front.port}`)
  assert.equal(headers['x-fleet-retry'], '1')
  assert.equal(headers.via ?? headers.proxy ?? headers.forwarded, undefined)
  assert.match(String(headers['x-request-id']), /^[0-9a-f]{32}$/)
  assert.equal(response.headers['x-request-id'], headers['x-request-id'])
  await front.send('/', { method: 'POST', headers: { 'x-fleet-retry': '1' } })
  assert.equal(app.seen.at(-1)?.headers['x-fleet-retry'], undefined)
})

test('accepts HTTP/1.0 without Host', async () => {
  const socket = connect(front.port, '127.0.0.1')
  socket.write('GET / HTTP/1.0\r\n\r\n')
  const pieces = await socket.toArray()
  assert.match(Buffer.concat(pieces).toString(), /^HTTP\/1\.1 200 /)
})

test('responds 404 to operators’ paths in any spelling', async () => {
  const spellings = [
    '/metrics',
    '/metrics/',
    '/metrics?x',
    '/metrics;x=1',
    '/metrics#x',
    '/METRICS',
    '/Metrics',
    '/%6Detrics',
    '/%6D%65%74%72%69%63%73',
    '/metrics%2F',
    '/metrics%3Bx',
    '//metrics',
    '///metrics',
    '/./metrics',
    '/x/../metrics',
    '/x/%2e%2e/metrics',
    '/x/..%2fmetrics',
    '/static/../metrics',
    '/static/%2e%2e/metrics',
    '/api/v1/auth/../../../metrics',
    '/live/../metrics',
    '/fleet',
    '/fleet/',
    '/%66leet',
    '/health/detailed',
    '/health//detailed',
    '/health/./detailed',
    '/health%2Fdetailed',
    '/HEALTH/detailed',
    '/api/v1/load-balancer/health',
    '/api/v1/load-balancer/instances',
    '/api/v1/load-balancer/drain?instance=x',
    '/api/v1/load-balancer',
    '/api/v1/load%2Dbalancer/config',
    '/api//v1/load-balancer/config',
    '/API/v1/Load-Balancer/config',
    '/api/v1/x/../load-balancer/config',
    `http://127.0.0.1:${front.port}/metrics`,
    `http://elsewhere//metrics`,
  ]
  const before = app.seen.length
  const token = { authorization: 'Bearer 0123456789abcdef0123456789abcdef', 'x-forwarded-for': '127.0.0.1' }
  for (const path of spellings) {
    for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS']) {
      assert.equal((await front.send(path, { method, headers: token })).status, 404, `${method} ${path}`)
    }
  }
  // Above the root, or with a NUL: not a valid path.
  for (const path of ['/../metrics', '/%2e%2e/metrics', '/metrics%00']) {
    assert.equal((await front.send(path)).status, 400, path)
  }
  assert.equal(app.seen.length, before, JSON.stringify(app.seen.slice(before)))
  const { body, headers } = await front.send('/metrics')
  assert.deepEqual(JSON.parse(body), { statusCode: 404, error: 'Not Found', message: 'Not Found' })
  assert.match(String(headers['content-type']), /^application\/json/)
  for (const path of ['/fleets', '/metricsx', '/x/metrics', '/health', '/ready', '/api/v1/load-balancers']) {
    assert.equal((await front.send(path)).status, 200, path)
  }
})

test('adds missing security headers and keeps those of an instance', async () => {
  const plain = await front.send('/')
  assert.equal(plain.headers['x-content-type-options'], 'nosniff')
  assert.equal(plain.headers['x-frame-options'], 'SAMEORIGIN')
  assert.equal(plain.headers['referrer-policy'], 'strict-origin-when-cross-origin')
  assert.equal(plain.headers.server, 'nginx')
  app.handler = (_request, response) => {
    const own = { 'X-Frame-Options': 'DENY', 'Referrer-Policy': 'no-referrer', 'Strict-Transport-Security': 'x' }
    response.writeHead(201, own).end()
  }
  const own = await front.send('/')
  assert.equal(own.headers['x-frame-options'], 'DENY')
  assert.equal(own.headers['referrer-policy'], 'no-referrer')
  assert.equal(own.headers['strict-transport-security'], undefined)
  app.handler = (_request, response) => response.end('ok')
})

test('responds 429 to a flood, earlier for logins, and never to probes', async () => {
  const limited = await startFront({
    FLEET_TARGETS: app.target,
    FLEET_RATE: '1r/m',
    FLEET_API_RATE: '1r/m',
    FLEET_AUTH_RATE: '1r/m',
  })
  const many = async (path: string, count: number): Promise<Record<number, number>> => {
    const counts: Record<number, number> = {}
    const responses = await Promise.all(Array.from({ length: count }, () => limited.send(path)))
    for (const { status } of responses) counts[status] = (counts[status] ?? 0) + 1
    return counts
  }
  assert.deepEqual(await many('/api/v1/auth/login', 15), { 200: 11, 429: 4 })
  assert.deepEqual(await many('/api/auth/login', 2), { 429: 2 })
  assert.deepEqual(await many('/API/v1/auth/login', 2), { 429: 2 })
  assert.deepEqual(await many('/api/v1/products', 99), { 200: 99 })
  assert.deepEqual(await many('/api/v1/products', 5), { 200: 2, 429: 3 })
  for (let i = 0; i < 3; i++) await many('/', 67)
  assert.deepEqual(await many('/', 5), { 429: 5 })
  assert.deepEqual(await many('/health', 50), { 200: 50 })
  const { headers, body } = await limited.send('/')
  assert.equal(headers['retry-after'], '1')
  assert.equal(JSON.parse(body).statusCode, 429)
})

test('counts an IPv4 address or an IPv6 network as one client', async () => {
  const limited = await startFront({
    FLEET_TARGETS: app.target,
    FLEET_AUTH_RATE: '1r/m',
    FLEET_TRUSTED_PROXY: '127.0.0.1',
  })
  const admitted = async (client: (n: number) => string): Promise<number> => {
    const login = (n: number) => limited.send('/api/v1/auth/login', { headers: { 'x-forwarded-for': client(n) } })
    const responses = await Promise.all(Array.from({ length: 20 }, (_, n) => login(n)))
    return responses.filter(({ status }) => status === 200).length
  }
  assert.equal(await admitted((n) => `2001:db8:1:2::${n}`), 11)
  assert.equal(await admitted((n) => `2001:db8:1:${100 + n}::1`), 20)
  assert.equal(await admitted((n) => `2001:a0a:a0a:a0a:${n}:a:a:a`), 11)
  assert.equal(await admitted((n) => `::ffff:203.0.113.${n}`), 20)
  assert.equal(await admitted((n) => `203.0.114.${n}`), 20)
  assert.equal(await admitted((n) => ['203.0.115.1', '::ffff:203.0.115.1'][n % 2] as string), 11)
})

test('limits in-flight requests of one client, and the size of bodies', async () => {
  // One worker: a second could accept a connection before the first has released finished requests.
  const limited = await startFront({
    FLEET_TARGETS: app.target,
    FLEET_CONNECTIONS: 2,
    FLEET_BODY_MAX: '1k',
    FLEET_WORKERS: 1,
  })
  const held: (() => void)[] = []
  app.handler = (_request, response) => void held.push(() => response.end('ok'))
  const waiting = [limited.send('/'), limited.send('/')]
  await until(() => held.length === 2)
  assert.equal((await limited.send('/')).status, 429)
  for (const release of held) release()
  app.handler = (_request, response) => response.end('ok')
  for (const pending of waiting) assert.equal((await pending).status, 200)
  assert.equal((await limited.send('/')).status, 200)
  const { status, body } = await limited.send('/', { method: 'POST', body: 'x'.repeat(1025) })
  assert.equal(status, 413)
  assert.equal(JSON.parse(body).statusCode, 413)
})

test('caches static files and serves them while every instance is down', async () => {
  const files = await startUpstream('files', ({ url }, response) => {
    response.setHeader('Cache-Control', url === '/static/short.css' ? 'max-age=1' : 'max-age=3600').end('a file')
  })
  const cached = await startFront({ FLEET_TARGETS: files.target })
  const state = async (path: string, headers: Record<string, string> = {}): Promise<string> => {
    const response = await cached.send(path, { headers })
    assert.deepEqual([response.status, response.body], [200, 'a file'])
    return String(response.headers['x-cache-status'])
  }
  assert.equal(await state('/static/a.css', { cookie: 'session=1', authorization: 'x' }), 'MISS')
  assert.equal(await state('/static/a.css', { cookie: 'session=2' }), 'HIT')
  assert.equal(files.seen.length, 1)
  assert.equal(files.seen[0]?.headers.cookie ?? files.seen[0]?.headers.authorization, undefined)
  assert.equal(await state('/static/a.css?v=2'), 'MISS')
  assert.equal((await cached.send('/api/x')).headers['x-cache-status'], undefined)
  assert.equal(await state('/static/short.css'), 'MISS')
  await files.stop()
  const states: string[] = []
  await until(async () => states.push(await state('/static/short.css')) && states.at(-1) === 'STALE', { what: 'STALE' })
  // Regardless of how many arrived within its second.
  assert.deepEqual(new Set(states.slice(0, -1)), new Set(states.slice(0, -1).map(() => 'HIT')))
  assert.equal(await state('/static/a.css'), 'HIT')
  const { status, body } = await cached.send('/static/b.css')
  assert.deepEqual([status, JSON.parse(body).statusCode], [503, 503])
  await files.start()
  const fresh = ['EXPIRED', 'HIT', 'UPDATING']
  await until(async () => fresh.includes(await state('/static/short.css')), { what: 'a new copy' })
})

test('one request fills a missing cache entry; concurrent ones wait for it', async () => {
  const files = await startUpstream('files', (_request, response) => {
    setTimeout(() => response.setHeader('Cache-Control', 'max-age=60').end('a file'), 100)
  })
  const cached = await startFront({ FLEET_TARGETS: files.target })
  await Promise.all(Array.from({ length: 20 }, () => cached.send('/static/cold.js')))
  assert.equal(files.seen.length, 1)
})

test('compresses text for clients that accept it', async () => {
  const text = JSON.stringify({ text: 'fleet '.repeat(1000) })
  app.handler = (_request, response) => response.setHeader('Content-Type', 'application/json').end(text)
  const plain = await front.send('/')
  assert.deepEqual([plain.body, plain.headers['content-encoding']], [text, undefined])
  const response = await fetch(front.url, { headers: { 'accept-encoding': 'gzip' } })
  assert.equal(response.headers.get('content-encoding'), 'gzip')
  assert.match(response.headers.get('vary') ?? '', /Accept-Encoding/)
  assert.equal(await response.text(), text)
  app.handler = (_request, response) => response.setHeader('Content-Type', 'image/png').end(text)
  const image = await fetch(front.url, { headers: { 'accept-encoding': 'gzip' } })
  assert.equal(image.headers.get('content-encoding'), null)
  await image.body?.cancel()
  app.handler = (_request, response) => response.end('ok')
})

test('logs one JSON object per request, with the times of every attempt', async () => {
  const [gone, here] = [await startUpstream('gone'), await startUpstream('here')]
  await gone.stop()
  const logged = await startFront({ FLEET_TARGETS: targets(gone, here), FLEET_WORKERS: 1 })
  const agent = '"}\\ ü'
  const headers = { 'user-agent': Buffer.from(agent).toString('latin1') }
  for (let turn = 0; turn < 2; turn++) await logged.send('/a"b?secret=1', { headers })
  await logged.send('/health')
  await until(() => logged.log().length >= 2, { what: 'two lines' })
  const lines = logged.log()
  assert.equal(lines.length, 2)
  assert.doesNotMatch(JSON.stringify(lines), /secret/)
  const retried = lines.find(({ upstream }) => String(upstream).includes(',')) ?? assert.fail(JSON.stringify(lines))
  assert.equal(retried.upstream, `${gone.target}, ${here.target}`)
  assert.equal(retried.upstream_status, '502, 200')
  assert.match(String(retried.upstream_seconds), /^\d\.\d{3}, \d\.\d{3}$/)
  for (const line of lines) {
    assert.equal(line.status, 200)
    assert.equal(line.path, '/a"b')
    assert.equal(line.client, '127.0.0.1')
    assert.equal(line.instance, 'here')
    assert.equal(typeof line.seconds, 'number')
    assert.ok(here.seen.some(({ headers }) => headers['x-request-id'] === line.request_id))
  }
})

test('forwards WebSockets on any path', async () => {
  const app = await startUpstream('sockets')
  const server = new WebSocketServer({ noServer: true })
  const { promise: upgraded, resolve } = Promise.withResolvers<Record<string, unknown>>()
  app.onUpgrade((request, socket, head) => {
    resolve(request.headers)
    server.handleUpgrade(request, socket, head, (client) => client.on('message', (data) => client.send(`> ${data}`)))
  })
  const through = await startFront({ FLEET_TARGETS: app.target })
  for (const path of ['/ws', '/elsewhere']) {
    const client = new WebSocket(`ws://127.0.0.1:${through.port}${path}`)
    const received = await new Promise((resolve, reject) => {
      client.on('open', () => client.send('hello'))
      client.on('message', (data) => resolve(String(data)))
      client.on('error', reject)
    })
    assert.equal(received, '> hello')
    client.terminate()
  }
  assert.equal((await upgraded).connection, 'upgrade')
  assert.equal((await through.send('/ws')).status, 200)
  assert.equal(app.seen.at(-1)?.headers.connection, undefined)
})

test('forwards each event at once', async () => {
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  app.handler = async (_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: first\n\n')
    await released
    response.end('data: last\n\n')
  }
  const response = await fetch(`${front.url}/events`, { headers: { 'accept-encoding': 'gzip' } })
  const reader = response.body?.getReader() ?? assert.fail()
  assert.equal(Buffer.from((await reader.read()).value ?? '').toString(), 'data: first\n\n')
  release()
  assert.equal(Buffer.from((await reader.read()).value ?? '').toString(), 'data: last\n\n')
  app.handler = (_request, response) => response.end('ok')
})

test('shows all clients the maintenance page while the file exists, except on probes', async () => {
  const file = join(front.folder, 'maintenance')
  writeFileSync(file, '')
  const page = await front.send('/', { headers: { accept: 'text/html,*/*' } })
  assert.equal(page.status, 503)
  assert.equal(page.headers['retry-after'], '30')
  assert.match(String(page.headers['content-type']), /^text\/html/)
  assert.match(page.body, /Back shortly/)
  for (const path of ['/api/v1/me', '/api/v1/auth/login', '/ws', '/static/x', '/']) {
    const { status, body, headers } = await front.send(path, { method: 'POST', body: 'x' })
    assert.deepEqual([status, JSON.parse(body).statusCode], [503, 503], path)
    assert.match(String(headers['content-type']), /^application\/json/)
  }
  assert.equal((await front.send('/health')).status, 200)
  assert.equal((await front.send('/.fleet/maintenance.html')).status, 404)
  await rm(file)
  assert.equal((await front.send('/')).status, 200)
})

test('forwards error responses of an instance unchanged', async () => {
  app.handler = ({ url }, response) => response.writeHead(Number(url?.slice(1))).end('mine')
  for (const status of [404, 413, 429, 500, 502, 503, 504]) {
    const response = await front.send(`/${status}`, { method: 'POST' })
    assert.deepEqual([response.status, response.body], [status, 'mine'])
  }
  app.handler = (_request, response) => response.end('ok')
})

test('the admin area requires a password, ships none, and sends the token to instances only', async () => {
  const port = await freePort()
  const passwords = join(front.folder, 'admin.htpasswd')
  const token = 'a token of at least thirty-two bytes'
  await startFront({
    FLEET_TARGETS: app.target,
    FLEET_ADMIN: 'on',
    FLEET_ADMIN_LISTEN: `127.0.0.1:${port}`,
    FLEET_ADMIN_PASSWORDS: passwords,
    FLEET_ADMIN_TOKEN: token,
  })
  const basic = (pair: string): Record<string, string> => ({
    authorization: `Basic ${Buffer.from(pair).toString('base64')}`,
  })
  const before = app.seen.length
  assert.equal((await sendRequest(port, '/fleet')).status, 401)
  assert.equal((await sendRequest(port, '/fleet', { headers: basic('admin:admin') })).status, 403, 'no file, no access')
  writeFileSync(passwords, `ops:{SHA}${createHash('sha1').update('right').digest('base64')}\n`, { mode: 0o644 })
  assert.equal((await sendRequest(port, '/fleet', { headers: basic('ops:wrong') })).status, 401)
  assert.equal(app.seen.length, before)
  const response = await sendRequest(port, '/fleet', { headers: basic('ops:right') })
  assert.equal(response.status, 200)
  assert.equal(app.seen.at(-1)?.headers.authorization, `Bearer ${token}`)
  assert.doesNotMatch(JSON.stringify(response), new RegExp(token))
  assert.equal((await sendRequest(port, '/', { headers: basic('ops:right') })).status, 302)
  assert.equal((await sendRequest(port, '/elsewhere', { headers: basic('ops:right') })).status, 404)
})
