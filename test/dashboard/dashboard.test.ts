import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { Script } from 'node:vm'
import helmet from '@fastify/helmet'
import Fastify, { type FastifyInstance } from 'fastify'
import { FleetError } from '../../src/base/errors.ts'
import { type DashboardOptions, dashboard } from '../../src/dashboard/index.ts'
import { identity } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { type OperatorsOptions, operators } from '../../src/instance/operators/index.ts'

const token = 'an-operator-token-of-more-than-32-bytes'

/** Without a token, as in development: direct connections from this machine are operators. */
async function start(
  t: TestContext,
  options: DashboardOptions = {},
  given: OperatorsOptions = {},
): Promise<{ app: FastifyInstance; url: string }> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(helmet)
  await app.register(identity, { name: 'shop', id: 'shop-1' })
  await app.register(lifecycle, { signals: false })
  await app.register(operators, given)
  await app.register(dashboard, options)
  return { app, url: await app.listen({ port: 0, host: '127.0.0.1' }) }
}
const post = (url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })

test('serves a page without external assets, whose policy allows exactly its own script and style', async (t) => {
  const { url } = await start(t)
  const response = await fetch(`${url}/fleet`)
  const html = await response.text()
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-type'), 'text/html; charset=utf-8')
  assert.equal(response.headers.get('cache-control'), 'no-store')
  assert.equal(response.headers.get('referrer-policy'), 'no-referrer')

  const policy = response.headers.get('content-security-policy') ?? ''
  const rest = [
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ]
  assert.deepEqual(
    policy.split('; ').filter((directive) => !/^(script|style)-src /.test(directive)),
    ["default-src 'none'", ...rest],
  )
  assert.doesNotMatch(policy, /unsafe|\*/)
  const sources = (tag: string): string[] =>
    [...html.matchAll(new RegExp(`<${tag}>(.*?)</${tag}>`, 'gs'))].map((match) => match[1] ?? '')
  for (const tag of ['script', 'style']) {
    const hashes = sources(tag).map((source) => `'sha256-${createHash('sha256').update(source).digest('base64')}'`)
    assert.ok(hashes.length > 0)
    assert.ok(policy.split('; ').includes(`${tag}-src ${hashes.join(' ')}`), tag)
  }
  assert.doesNotMatch(html, /<link rel="stylesheet"|<script src/)
  assert.doesNotMatch(html, / (style|on\w+)="/)
  assert.doesNotMatch(html.replaceAll('http://www.w3.org/2000/svg', ''), /https?:\/\//)
  assert.match(html, /<h1 tabindex="-1">shop<\/h1>/)
  assert.doesNotThrow(() => new Script(sources('script').join('\n')))
})

test('returns the state of the fleet', async (t) => {
  const { app, url } = await start(t)
  const response = await fetch(`${url}/fleet/state`)
  const { servedBy, at, redis, fields, instances, departed } = await response.json()
  assert.equal(response.headers.get('cache-control'), 'no-store')
  assert.deepEqual([servedBy, redis.state, departed], ['shop-1', 'none', []])
  assert.ok(Math.abs(at - Date.now()) < 60_000)
  const row = Object.fromEntries(fields.map((name: string, i: number) => [name, instances[0][i]]))
  const { id, host, pid, version, state, startedAt, color, pool, weight } = app.fleet.self()
  const steady = { id, host, pid, version, state, color, pool, weight, region: null, zone: null, failing: [] }
  assert.equal(instances.length, 1)
  assert.partialDeepStrictEqual(row, { ...steady, startedAt: Date.parse(startedAt), rps: 0, errorRate: 0, p95: 0 })
  assert.ok(row.memory > 0 && row.lastSeen > row.startedAt && row.port > 0)
})

test('serves page, state and commands to operators only', async (t) => {
  const { app, url } = await start(t, {}, { token })
  for (const [method, path] of [
    ['GET', '/fleet'],
    ['GET', '/fleet/state'],
    ['GET', '/fleet/history'],
    ['GET', '/fleet/events'],
    ['GET', '/fleet/routes'],
    ['GET', '/fleet/dependencies'],
    ['POST', '/fleet/events'],
    ['POST', '/fleet/drain'],
    ['POST', '/fleet/undrain'],
  ] as const) {
    const proxied = { 'x-forwarded-for': '192.0.2.1', 'content-type': 'application/json' }
    const body = method === 'POST' ? '{"instance":"shop-1","kind":"killed","text":"SIGKILL"}' : undefined
    const send = (headers: Record<string, string>) => fetch(url + path, { method, headers, body })
    assert.equal((await send(proxied)).status, 404)
    assert.equal(app.fleet.state, 'serving')
    assert.ok((await send({ ...proxied, authorization: `Bearer ${token}` })).ok)
    app.fleet.undrain()
  }
})

test('drains and undrains this instance and a peer', async (t) => {
  const { app, url } = await start(t)
  const sent: string[] = []
  const peer = { ...app.fleet.self(), id: 'shop-2' }
  Object.assign(app.fleet, {
    peers: () => [app.fleet.self(), peer],
    command: async (id: string, command: string) => void sent.push(`${command} ${id}`),
  })
  const drained = await post(`${url}/fleet/drain`, { instance: 'shop-1' })
  assert.deepEqual([drained.status, drained.headers.get('cache-control'), sent], [202, 'no-store', []])
  assert.equal(app.fleet.state, 'draining')
  assert.equal((await post(`${url}/fleet/undrain`, { instance: 'shop-1' })).status, 202)
  assert.equal(app.fleet.state, 'serving')
  assert.equal((await post(`${url}/fleet/drain`, { instance: 'shop-2' })).status, 202)
  assert.equal((await post(`${url}/fleet/undrain`, { instance: 'shop-2' })).status, 202)
  assert.deepEqual([sent, app.fleet.state], [['drain shop-2', 'undrain shop-2'], 'serving'])

  Object.assign(app.fleet, {
    command: async () => {
      throw new FleetError('FLEET_ERR_COMMAND_TIMEOUT')
    },
  })
  const late = await post(`${url}/fleet/drain`, { instance: 'shop-2' })
  assert.equal(((await late.json()) as { code: string }).code, 'FLEET_ERR_COMMAND_TIMEOUT', 'it is not confirmed')

  const unknown = await post(`${url}/fleet/drain`, { instance: 'shop-9' })
  assert.equal(unknown.status, 404)
  assert.equal(((await unknown.json()) as { code: string }).code, 'FLEET_ERR_INSTANCE_UNKNOWN')
  for (const instance of ['x', 'x'.repeat(128)])
    assert.equal((await post(`${url}/fleet/drain`, { instance })).status, 404, 'no such instance')
  for (const body of [{}, { instance: 3 }, { instance: '' }, { instance: 'x'.repeat(129) }, [], null]) {
    assert.equal((await post(`${url}/fleet/drain`, body)).status, 400)
  }
})

test('rejects commands that another site sends through an operator’s browser', async (t) => {
  const { app, url } = await start(t)
  for (const headers of [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { 'sec-fetch-site': 'none' },
    { origin: 'https://example.org' },
    { origin: 'null' },
  ] as Record<string, string>[]) {
    const response = await post(`${url}/fleet/drain`, { instance: 'shop-1' }, headers)
    assert.equal(response.status, 404, JSON.stringify(headers))
  }
  // A form of another site can send this type without asking first.
  const form = await fetch(`${url}/fleet/drain`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: '{}',
  })
  assert.equal(form.status, 403)
  assert.equal(((await form.json()) as { code: string }).code, 'FLEET_ERR_ORIGIN_UNPROVEN')
  assert.equal(app.fleet.state, 'serving')
})

test('serves the page at another path, or not at all', async (t) => {
  const moved = await start(t, { path: '/ops/board', refreshMs: 500 })
  const html = await (await fetch(`${moved.url}/ops/board`)).text()
  assert.match(html, /data-root="board" data-refresh="500"/)
  assert.equal((await fetch(`${moved.url}/ops/board/state`)).status, 200)
  assert.equal((await fetch(`${moved.url}/fleet`)).status, 404)
  const off = await start(t, { path: false })
  assert.equal((await fetch(`${off.url}/fleet`)).status, 404)
  await assert.rejects(start(t, { path: 'fleet' }), { code: 'FLEET_ERR_OPTION_INVALID', message: /dashboard\.path/ })
  for (const refreshMs of [249, 60_001, 500.5])
    await assert.rejects(start(t, { refreshMs }), { code: 'FLEET_ERR_OPTION_INVALID' })
  for (const refreshMs of [250, 60_000]) {
    const { url } = await start(t, { refreshMs })
    assert.match(
      await (await fetch(`${url}/fleet`)).text(),
      new RegExp(`data-root="fleet" data-refresh="${refreshMs}"`),
    )
  }
})

test('brings the plugins that it needs, and leaves a page of the app at its path alone', async (t) => {
  const alone = Fastify()
  const own = Fastify()
  t.after(() => Promise.all([alone.close(), own.close()]))
  await alone.register(dashboard)
  assert.deepEqual([(await alone.inject('/fleet')).statusCode, alone.fleet.state], [200, 'starting'])
  own.get('/fleet', async () => 'cars')
  await own.register(dashboard)
  assert.equal((await own.inject('/fleet')).body, 'cars')
  assert.equal((await own.inject('/fleet/state')).statusCode, 404)
})

test('logs commands and events that are posted, but not the requests of its page', async (t) => {
  const urls: string[] = []
  const write = (line: string): void => {
    const { msg, req } = JSON.parse(line) as { msg: string; req?: { url: string } }
    if (msg === 'incoming request' && req) urls.push(req.url)
  }
  const app = Fastify({ logger: { stream: { write } } })
  t.after(() => app.close())
  await app.register(dashboard)
  for (const path of ['', '/state', '/history', '/events', '/routes', '/dependencies'])
    await app.inject(`/fleet${path}`)
  for (const [path, payload] of [
    ['drain', { instance: app.fleet.instance.id }],
    ['undrain', { instance: app.fleet.instance.id }],
    ['events', { kind: 'killed', text: 'x' }],
  ] as const)
    assert.equal((await app.inject({ method: 'POST', url: `/fleet/${path}`, payload })).statusCode, 202, path)
  assert.deepEqual(urls, ['/fleet/drain', '/fleet/undrain', '/fleet/events'])
})

test('escapes the name of the fleet, and polls every two seconds by default', async (t) => {
  const app = Fastify()
  t.after(() => app.close())
  const name = '<b>"A&B"</b>'
  await app.register(identity, { id: 'shop-1' })
  await app.register(lifecycle, { signals: false })
  Object.assign(app.fleet, { name })
  await app.register(operators)
  await app.register(dashboard)
  const html = await (await fetch(`${await app.listen({ port: 0, host: '127.0.0.1' })}/fleet`)).text()
  assert.ok(html.includes('&lt;b&gt;&quot;A&amp;B&quot;&lt;/b&gt;'))
  assert.ok(!html.includes(name))
  assert.match(html, /data-refresh="2000"/)
  assert.match(html, /id="sign-out" hidden/, 'there is no session to end')
})
