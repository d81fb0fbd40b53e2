import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance, type FastifyReply, type RouteShorthandOptions } from 'fastify'
import { identity } from '../../../src/instance/identity.ts'
import { cache } from '../../../src/state/cache/index.ts'
import { httpCache, type RouteCache } from '../../../src/state/http-cache/index.ts'
import { redis } from '../../../src/state/redis/index.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

const minute = 60_000
let calls = 0
let sent: { status: number; headers: Record<string, string | string[]>; body?: string | Buffer } = {
  status: 200,
  headers: {},
}

/** Routes that send {@link sent}. Each request to `/x/<name>` is a resource of its own. */
async function build(): Promise<FastifyInstance> {
  const app = Fastify({ trustProxy: true })
  apps.push(app)
  await app.register(identity, { name: `defences-${apps.length}` })
  await app.register(redis, { client: null })
  await app.register(cache, { jitter: 0 })
  await app.register(httpCache)
  const route = (url: string, options: Partial<RouteCache> = {}, hooks: RouteShorthandOptions = {}) =>
    app.get(url, { ...hooks, config: { cache: { ttlMs: minute, ...options } } }, async (_, reply) =>
      reply
        .code(sent.status)
        .headers(sent.headers)
        .type('text/plain')
        .send(sent.body ?? `call ${++calls}`),
    )
  route('/x/:name')
  route('/vary/:name', { vary: ['X-Tenant'] })
  route('/cookies/:name', { cookies: 'ignore' })
  route('/age/:name', { maxAge: 60 })
  route('/few/:name', { maxEntries: 2 })
  const forbid = async (_: unknown, reply: FastifyReply) => void reply.header('cache-control', 'private')
  route('/hooked/:name', {}, { onSend: forbid })
  for (const stale of ['staleWhileRevalidateMs', 'staleIfErrorMs'])
    route(`/${stale}/:name`, { ttlMs: 1_000, maxEntries: 1, [stale]: 60_000 })
  return app
}

describe('a response', () => {
  let app: FastifyInstance
  let names = 0
  before(async () => {
    app = await build()
  })
  const get = (url: string, headers: Record<string, string> = {}) => app.inject({ url, headers })
  /** Whether a second request gets the response to the first one. */
  async function isStored(
    prefix: string,
    response: Partial<typeof sent> = {},
    first: Record<string, string> = {},
    second = first,
  ): Promise<boolean> {
    sent = { status: 200, headers: {}, ...response }
    const url = `${prefix}/${names++}`
    const before = calls
    const one = await get(url, first)
    const two = await get(url, second)
    assert.equal(one.statusCode, sent.status)
    if (sent.body === undefined) assert.equal(one.body === two.body, calls === before + 1, 'one call, one body')
    return two.headers['cache-status'] === 'fleet; hit' && two.headers.age !== undefined
  }

  test('without anything that forbids it is stored', async () => {
    for (const prefix of ['/x', '/vary', '/cookies', '/age']) assert.equal(await isStored(prefix), true, prefix)
  })

  for (const status of [200, 203, 204, 301, 308])
    test(`of status ${status} is stored`, async () => assert.equal(await isStored('/x', { status, body: '' }), true))
  for (const status of [201, 202, 206, 300, 302, 303, 307, 400, 401, 403, 404, 410, 451, 500, 503])
    test(`of status ${status} is not stored`, async () => assert.equal(await isStored('/x', { status }), false))

  test('of status 404 comes from the handler, and one of 500 from the one call that got it', async () => {
    for (const [status, cacheControl, handled] of [
      [404, 'private, no-cache', 2],
      [499, 'private, no-cache', 2],
      [500, 'no-store', 1],
    ] as const) {
      sent = { status, headers: {} }
      const before = calls
      const { headers } = await get(`/x/${names++}`)
      assert.deepEqual([headers['cache-control'], calls - before], [cacheControl, handled], String(status))
    }
  })

  test('with a 5xx status is stored by no cache before this one, whatever its handler says', async () => {
    for (const status of [500, 503]) {
      sent = { status, headers: { 'cache-control': 'public, max-age=60' } }
      const { statusCode, headers } = await get(`/x/${names++}`)
      assert.deepEqual([statusCode, headers['cache-control']], [status, 'no-store'])
    }
  })

  for (const [name, value] of [
    ['set-cookie', 'a=b'],
    ['cache-control', 'no-store'],
    ['cache-control', 'no-cache'],
    ['cache-control', 'private'],
    ['cache-control', 'PRIVATE'],
    ['cache-control', 'max-age=60, private'],
    ['cache-control', 'private="x-a"'],
    ['content-encoding', 'br'],
    ['vary', '*'],
    ['vary', 'accept-language'],
    ['vary', 'Origin, X-Tenant'],
  ] as const)
    test(`with ${name}: ${value} is not stored`, async () =>
      assert.equal(await isStored('/x', { headers: { [name]: value } }), false))

  for (const [prefix, name, value] of [
    ['/x', 'cache-control', 'public, max-age=5'],
    ['/x', 'cache-control', 'no-transform'],
    ['/x', 'vary', 'Authorization, Cookie'],
    ['/vary', 'vary', 'X-TENANT'],
  ] as const)
    test(`of ${prefix} with ${name}: ${value} is stored`, async () =>
      assert.equal(await isStored(prefix, { headers: { [name]: value } }), true))

  test('that a hook of the route forbids to store is not stored', async () =>
    assert.equal(await isStored('/hooked'), false))

  test('that varies by cookies is not stored where they are ignored', async () =>
    assert.equal(await isStored('/cookies', { headers: { vary: 'cookie' } }), false))

  for (const [prefix, header, expected] of [
    ['/x', 'authorization', false],
    ['/vary', 'authorization', false],
    ['/cookies', 'authorization', false],
    ['/x', 'cookie', false],
    ['/vary', 'cookie', false],
    ['/cookies', 'cookie', true],
    ['/x', 'x-other', true],
  ] as const)
    test(`of ${prefix} to a request with ${header} ${expected ? 'is' : 'is not'} shared`, async () => {
      assert.equal(await isStored(prefix, {}, { [header]: 'a=b' }), expected, 'among such requests')
      assert.equal(await isStored(prefix, {}, { [header]: 'a=b' }, {}), false || expected, 'from such a request')
      assert.equal(await isStored(prefix, {}, {}, { [header]: 'a=b' }), expected, 'to such a request')
    })

  test('belongs to the values of the headers in `vary`, its host, scheme, path and query', async () => {
    assert.equal(await isStored('/vary', {}, { 'x-tenant': 'a' }), true)
    assert.equal(await isStored('/vary', {}, { 'x-tenant': 'a' }, { 'x-tenant': 'b' }), false)
    assert.equal(await isStored('/vary', {}, { 'x-tenant': '' }, {}), false)
    assert.equal(await isStored('/x', {}, { host: 'a.example' }, { host: 'b.example' }), false)
    assert.equal(await isStored('/x', {}, {}, { 'x-forwarded-proto': 'https' }), false)
    sent = { status: 200, headers: {} }
    const bodies = ['/x/q', '/x/q?a', '/x/q?a=', '/x/Q'].map(async (url) => (await get(url)).body)
    assert.equal(new Set(await Promise.all(bodies)).size, bodies.length)
  })

  test('names what it depends on, and is private unless it may be shared', async () => {
    sent = { status: 200, headers: {} }
    const vary = async (url: string) =>
      String((await get(url)).headers.vary)
        .split(', ')
        .sort()
    assert.deepEqual(await vary('/x/v'), ['authorization', 'cookie'])
    assert.deepEqual(await vary('/vary/v'), ['authorization', 'cookie', 'x-tenant'])
    assert.deepEqual(await vary('/cookies/v'), ['authorization'])
    assert.equal((await get('/x/v')).headers['cache-control'], 'public, max-age=0, must-revalidate')
    assert.equal((await get('/age/v')).headers['cache-control'], 'public, max-age=60')
    assert.equal((await get('/x/v', { authorization: 'a' })).headers['cache-control'], 'private, no-cache')
    sent = { status: 200, headers: { 'cache-control': 'no-store' } }
    assert.equal((await get('/x/own', { authorization: 'a' })).headers['cache-control'], 'no-store')
  })

  test('has an age in whole seconds, and 304 only for its own tag', async (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: 1_800_000_000_000 })
    sent = { status: 200, headers: {} }
    const { headers } = await get('/x/age')
    assert.equal(headers.age, '0')
    t.mock.timers.setTime(1_800_000_000_999)
    assert.equal((await get('/x/age')).headers.age, '0')
    t.mock.timers.setTime(1_800_000_001_000)
    assert.equal((await get('/x/age')).headers.age, '1')
    const status = async (tag: string) => (await get('/x/age', { 'if-none-match': tag })).statusCode
    const tag = String(headers.etag)
    assert.deepEqual(
      [await status(tag), await status(`W/${tag}`), await status(`"a", ${tag}`), await status('*')],
      [304, 304, 304, 304],
    )
    assert.deepEqual([await status('"a"'), await status(''), await status(tag.slice(1, -1))], [200, 200, 200])
  })

  test('has 304 with status 200 only, and keeps the tag and the Cache-Control of its handler', async () => {
    sent = { status: 203, headers: { etag: '"own"', 'cache-control': 'public, max-age=5' } }
    await get('/x/203')
    const { statusCode, headers } = await get('/x/203', { 'if-none-match': '"own"' })
    assert.deepEqual([statusCode, headers['cache-status']], [203, 'fleet; hit'])
    assert.deepEqual([headers.etag, headers['cache-control']], ['"own"', 'public, max-age=5'])
  })

  test('has 304 by time only if the client is as new, and has no tag', async () => {
    const modified = 'Wed, 01 Jan 2025 00:00:10 GMT'
    sent = { status: 200, headers: { 'last-modified': modified } }
    await get('/x/time')
    const status = async (since: string, more = {}) =>
      (await get('/x/time', { 'if-modified-since': since, ...more })).statusCode
    assert.deepEqual([await status(modified), await status('Wed, 01 Jan 2025 00:00:11 GMT')], [304, 304])
    assert.deepEqual([await status('Wed, 01 Jan 2025 00:00:09 GMT'), await status('soon')], [200, 200])
    assert.equal(await status(modified, { 'if-none-match': '"a"' }), 200, 'the tag decides')
  })

  test('is stored for `maxEntries` URLs, and the next one goes to the handler', async () => {
    const stored = []
    for (const _ of [1, 2, 3]) stored.push(await isStored('/few'))
    assert.deepEqual(stored, [true, true, false])
  })

  for (const stale of ['staleWhileRevalidateMs', 'staleIfErrorMs'])
    test(`counts until its life is over, with its \`${stale}\``, async (t) => {
      t.mock.timers.enable({ apis: ['Date'], now: 1_800_000_000_000 })
      assert.equal(await isStored(`/${stale}`), true)
      t.mock.timers.tick(61_000)
      assert.equal(await isStored(`/${stale}`), false)
      t.mock.timers.tick(6_100)
      assert.equal(await isStored(`/${stale}`), true)
    })

  test('is stored 600 times a minute for one client', async () => {
    sent = { status: 200, headers: {} }
    const ask = async (i: number, remoteAddress: string) =>
      (await app.inject({ url: `/x/many-${remoteAddress}-${i}`, remoteAddress })).headers['cache-status']
    for (let i = 0; i < 600; i++) assert.equal(await ask(i, '10.0.0.7'), 'fleet; fwd=miss')
    assert.equal(await ask(600, '10.0.0.7'), 'fleet; fwd=bypass')
    assert.equal(await ask(0, '10.0.0.7'), 'fleet; hit')
    assert.equal(await ask(0, '10.0.0.8'), 'fleet; fwd=miss')
  })
})
