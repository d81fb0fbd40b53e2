import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import { FleetError } from '../../../src/base/errors.ts'
import { headers as identityHeaders } from '../../../src/instance/headers.ts'
import { identity } from '../../../src/instance/identity.ts'
import { cache } from '../../../src/state/cache/index.ts'
import { httpCache, type RouteCache } from '../../../src/state/http-cache/index.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { patient, patientApp } from '../redis/patience.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

const long = 60_000
const config = (more: Partial<RouteCache> = {}) => ({ config: { cache: { ttlMs: long, ...more } } })
let calls = 0
let failing = false
let fleets = 0

async function build(url?: string, name = `http-${fleets++}`): Promise<FastifyInstance> {
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(identity, { name })
  await app.register(identityHeaders)
  await app.register(redis, url ? { url, ...patient } : { client: null })
  await app.register(cache, { jitter: 0, errorBackoffMs: 0 })
  await app.register(httpCache)
  app.addHook('onRequest', async ({ headers }, reply) => {
    // As @fastify/cors does.
    reply.header('vary', 'Origin')
    if (headers.origin) reply.header('access-control-allow-origin', headers.origin)
  })
  app.get('/plain', config({ tags: ['products'] }), async (_, reply) => {
    reply.header('x-own', 'kept')
    return { call: ++calls }
  })
  app.get<{ Params: { id: string } }>(
    '/items/:id',
    config({ tags: ({ params }) => [`item ${(params as { id: string }).id}`] }),
    async ({ params }) => ({ id: params.id, call: ++calls }),
  )
  app.get('/languages', config({ vary: ['Accept-Language'] }), async ({ headers }, reply) => {
    reply.header('vary', 'Accept-Language')
    return { language: headers['accept-language'], secret: headers['x-unkeyed'], call: ++calls }
  })
  app.get('/open', config({ cookies: 'ignore' }), async ({ headers }) => ({ cookie: headers.cookie, call: ++calls }))
  app.get('/tagged', config({ maxAge: 30 }), async (_, reply) => {
    reply.headers({ etag: '"mine"', 'last-modified': 'Wed, 21 Oct 2015 07:28:00 GMT' })
    return { call: ++calls }
  })
  app.get('/cookie', config(), async (_, reply) => reply.header('set-cookie', 'a=b').send({ call: ++calls }))
  app.get('/private', config(), async (_, reply) => reply.header('cache-control', 'private').send({ call: ++calls }))
  app.get('/no-store', config(), async (_, reply) => reply.header('cache-control', 'no-store').send({ call: ++calls }))
  app.get('/varies', config(), async (_, reply) => reply.header('vary', 'User-Agent').send({ call: ++calls }))
  app.get('/any', config(), async (_, reply) => reply.header('vary', '*').send({ call: ++calls }))
  app.get('/zipped', config(), async (_, reply) => reply.header('content-encoding', 'gzip').send({ call: ++calls }))
  app.get('/missing', config(), async (_, reply) => reply.code(404).send({ call: ++calls }))
  app.get('/moved', config(), async (_, reply) => reply.redirect(`/plain?${++calls}`, 301))
  app.get('/bytes', config(), async (_, reply) => reply.type('image/png').send(Buffer.from([0xff, 0, ++calls])))
  app.get('/stream', config(), async (_, reply) => reply.type('text/plain').send(Readable.from([`call ${++calls}`])))
  app.get('/stale', config({ ttlMs: 40, staleIfErrorMs: long }), async () => {
    if (failing) throw new Error('out of order')
    return { call: ++calls }
  })
  app.get('/revalidated', config({ ttlMs: 40, staleWhileRevalidateMs: long }), async () => ({ call: ++calls }))
  app.get('/failing', config(), async () => {
    calls++
    await new Promise(setImmediate)
    throw new Error('out of order')
  })
  app.get('/uncached', async () => ({ call: ++calls }))
  const guard = async ({ headers }: { headers: Record<string, unknown> }) => {
    if (headers['x-api-key'] !== 'right') throw new FleetError('FLEET_ERR_TOKEN_MISSING')
  }
  app.get('/guarded', { ...config({ vary: ['x-api-key'] }), preHandler: guard }, async () => ({ call: ++calls }))
  return app
}

const list = (value: unknown): string[] =>
  String(value)
    .split(', ')
    .map((field) => field.toLowerCase())
    .sort()

describe('one instance', () => {
  let app: FastifyInstance
  before(async () => {
    app = await build()
  })
  const get = (url: string, headers: Record<string, string> = {}, more: InjectOptions = {}) =>
    app.inject({ url, headers, ...more })

  test('sends the stored response to the second request and calls the handler once', async () => {
    const [done, began, first, second] = [calls, performance.now(), await get('/plain'), await get('/plain')]
    const oldest = Math.ceil((performance.now() - began) / 1000)
    assert.equal(calls, done + 1)
    assert.equal(second.body, first.body)
    assert.deepEqual(
      [first, second].map(({ headers }) => headers['cache-status']),
      ['fleet; fwd=miss', 'fleet; hit'],
    )
    for (const { headers } of [first, second]) {
      assert.equal(headers['content-type'], 'application/json; charset=utf-8')
      assert.equal(headers['cache-control'], 'public, max-age=0, must-revalidate')
      assert.equal(headers['x-own'], 'kept')
      assert.ok(/^\d+$/.test(String(headers.age)) && Number(headers.age) < oldest, `${headers.age}`)
      assert.deepEqual(list(headers.vary), ['authorization', 'cookie', 'origin'])
      assert.match(String(headers.etag), /^"[\w-]{27}"$/)
      assert.equal(headers['x-instance-id'], app.fleet.instance.id)
    }
  })

  test('calls the handler once for a hundred concurrent requests', async () => {
    const done = calls
    const responses = await Promise.all(Array.from({ length: 100 }, () => get('/plain?cold')))
    assert.equal(new Set(responses.map(({ body }) => body)).size, 1)
    assert.equal(calls, done + 1)
  })

  test('stores responses per URL, host and scheme', async () => {
    const done = calls
    await get('/plain?a=1')
    await get('/plain?a=2')
    await get('/plain?a=1', { host: 'example.com' })
    await get('/plain?a=1', { host: 'example.com' })
    assert.equal(calls, done + 3)
    await get(`/plain?${'x'.repeat(2_000)}`)
    await get(`/plain?${'x'.repeat(2_000)}`)
    assert.equal(calls, done + 4)
  })

  test('adds the headers in `vary` to the key and hides all others from the handler', async () => {
    const send = async (language: string, unkeyed = '') =>
      (await get('/languages', { 'accept-language': language, 'x-unkeyed': unkeyed })).json()
    const done = calls
    const [german, english] = [await send('de', 'poison'), await send('en')]
    assert.deepEqual([german.language, english.language, german.secret], ['de', 'en', undefined])
    assert.deepEqual(await send('de'), german)
    assert.equal(calls, done + 2)
    const { headers } = await get('/languages', { 'accept-language': 'de' })
    assert.deepEqual(list(headers.vary), ['accept-language', 'authorization', 'cookie', 'origin'])
  })

  test('lets other hooks set their headers for every client', async () => {
    await get('/plain?cors', { origin: 'https://a.example' })
    const { headers } = await get('/plain?cors', { origin: 'https://b.example' })
    assert.equal(headers['access-control-allow-origin'], 'https://b.example')
    assert.equal(headers['cache-status'], 'fleet; hit')
  })

  test('responds 304 to a client that has the response', async () => {
    const { headers } = await get('/plain')
    const etag = String(headers.etag)
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const response = await get('/plain', { 'if-none-match': known })
      assert.deepEqual([response.statusCode, response.body], [304, ''], known)
      assert.equal(response.headers.etag, etag)
      assert.equal(response.headers['cache-control'], headers['cache-control'])
      assert.equal(response.headers['content-type'], undefined)
      assert.deepEqual(list(response.headers.vary), list(headers.vary))
    }
    assert.equal((await get('/plain', { 'if-none-match': '"other"' })).statusCode, 200)
  })

  test("keeps the handler's own validators and times", async () => {
    const { headers } = await get('/tagged')
    assert.deepEqual([headers.etag, headers['cache-control']], ['"mine"', 'public, max-age=30'])
    const since = async (date: string) => (await get('/tagged', { 'if-modified-since': date })).statusCode
    assert.equal(await since('Wed, 21 Oct 2015 07:28:00 GMT'), 304)
    assert.equal(await since('Wed, 21 Oct 2015 07:27:59 GMT'), 200)
    assert.equal(await since('yesterday'), 200)
    const both = { 'if-none-match': '"other"', 'if-modified-since': 'Wed, 21 Oct 2015 07:28:00 GMT' }
    assert.equal((await get('/tagged', both)).statusCode, 200)
  })

  test('bypasses the cache for requests with Authorization or cookies', async () => {
    await get('/plain')
    for (const headers of [{ authorization: 'Bearer x' }, { cookie: 'a=b' }] as Record<string, string>[]) {
      const done = calls
      const response = await get('/plain', headers)
      assert.equal(calls, done + 1)
      assert.equal(response.headers['cache-status'], 'fleet; fwd=bypass')
      assert.equal(response.headers['cache-control'], 'private, no-cache')
      assert.deepEqual(list(response.headers.vary), ['authorization', 'cookie', 'origin'])
    }
    const [first, second] = [await get('/open'), await get('/open', { cookie: 'a=b' })]
    assert.equal(second.body, first.body)
    assert.deepEqual(list(second.headers.vary), ['authorization', 'origin'])
  })

  test('does not store responses that must not be shared', async () => {
    for (const url of ['/cookie', '/private', '/no-store', '/varies', '/any', '/zipped', '/missing']) {
      const responses = [await get(url), await get(url), await get(url)]
      for (const { headers } of responses) assert.equal(headers['cache-status'], 'fleet; fwd=miss', url)
      const bodies = responses.map(({ body }) => body)
      assert.equal(new Set(bodies).size, 3, url)
    }
    assert.equal((await get('/cookie')).headers['set-cookie'], 'a=b')
    assert.equal((await get('/no-store')).headers['cache-control'], 'no-store')
    assert.equal((await get('/missing')).statusCode, 404)
  })

  test('stores nothing for a path that only some parsers resolve', async (t) => {
    const other = await build()
    other.get('/files/*', config(), async () => ({ call: ++calls }))
    t.after(() => other.close())
    const port = Number(new URL(await other.listen({ host: '127.0.0.1', port: 0 })).port)
    const body = async (path: string): Promise<string> => {
      const [response] = await once(request({ host: '127.0.0.1', port, path, agent: false }).end(), 'response')
      return text(response)
    }
    // After resolving, this would be the path of another route.
    for (const path of [
      '/files/../uncached',
      '/files/%2e%2e/uncached',
      '/files/a/../b',
      '/files/..\\uncached',
      '/files/"',
    ]) {
      assert.notEqual(await body(path), await body(path), path)
    }
    for (const path of ['/files/a', '/files//a', '/files/a;b?c=%2F'])
      assert.equal(await body(path), await body(path), path)
  })

  test('stores any body unchanged', async () => {
    for (const url of ['/moved', '/bytes', '/stream']) {
      const [done, first, second] = [calls, await get(url), await get(url)]
      assert.deepEqual(second.rawPayload, first.rawPayload)
      for (const name of ['content-type', 'location', 'content-length'])
        assert.equal(second.headers[name], first.headers[name])
      assert.equal(calls, done + 1, url)
    }
  })

  test('serves HEAD from the response to GET', async () => {
    const [done, head, full] = [calls, await get('/plain?head', {}, { method: 'HEAD' }), await get('/plain?head')]
    assert.equal(calls, done + 1)
    assert.deepEqual([head.statusCode, head.body], [200, ''])
    for (const name of ['etag', 'content-type', 'content-length']) assert.equal(head.headers[name], full.headers[name])
  })

  test('deletes responses by tag', async () => {
    const [plain, one, two] = [await get('/plain'), await get('/items/1'), await get('/items/2')]
    await app.cache.deleteByTag('item 1')
    assert.notEqual((await get('/items/1')).body, one.body)
    assert.equal((await get('/items/2')).body, two.body)
    await app.cache.deleteByTag('products')
    assert.notEqual((await get('/plain')).body, plain.body)
  })

  test('serves a stale response instead of an error, and the error if there is none', async () => {
    const { body } = await get('/stale')
    failing = true
    await until(async () => (await get('/stale')).headers['cache-status'] === 'fleet; fwd=miss')
    for (let n = 0; n < 5; n++) {
      const response = await get('/stale')
      assert.deepEqual([response.statusCode, response.body], [200, body])
    }
    failing = false
    const done = calls
    const responses = await Promise.all([1, 2, 3, 4, 5].map(() => get('/failing')))
    for (const { statusCode, headers } of responses) {
      assert.equal(statusCode, 500)
      assert.equal(headers['cache-control'], 'no-store')
    }
    assert.equal(calls, done + 1)
  })

  test('serves a stale response while it revalidates', async () => {
    const { body } = await get('/revalidated')
    await until(async () => (await get('/revalidated')).body !== body)
  })

  test('runs after the hooks that guard the route', async () => {
    const [done, first, second] = [calls, await get('/guarded', { 'x-api-key': 'right' }), await get('/guarded')]
    assert.deepEqual([first.statusCode, second.statusCode], [200, 401])
    assert.equal((await get('/guarded', { 'x-api-key': 'right' })).body, first.body)
    assert.equal(calls, done + 1)
  })

  test('ignores other routes and forged internal requests', async () => {
    const { headers } = await get('/uncached')
    assert.deepEqual(
      [headers['cache-control'], headers['cache-status'], headers.vary],
      [undefined, undefined, 'Origin'],
    )
    const response = await get('/plain', { 'x-fleet-cache-load': 'made up' })
    assert.match(String(response.headers['cache-status']), /^fleet; (hit|fwd=miss)$/)
  })

  test('rejects invalid options when the route is added', async () => {
    const isRejected = (error: unknown): boolean =>
      error instanceof FleetError && error.code.startsWith('FLEET_ERR_OPTION_')
    const fresh = await build()
    const add = (options: unknown, method: 'GET' | 'POST' = 'GET') =>
      fresh.route({ method, url: `/odd-${calls++}`, config: { cache: options as RouteCache }, handler: async () => 1 })
    assert.throws(() => add({}), isRejected)
    assert.throws(() => add({ ttlMs: 0 }), isRejected)
    assert.throws(() => add({ ttlMs: 1, ttl: 1 }), isRejected)
    assert.throws(() => add({ ttlMs: 1 }, 'POST'), isRejected)
    assert.doesNotThrow(() => add(false))
  })
})

describe('a fleet', () => {
  let server: RedisServer
  before(async () => {
    server = await startRedis()
  })

  test('shares a stored response and deletes it on every instance', async () => {
    const fleet = await Promise.all([1, 2, 3].map(() => build(server.url, 'together')))
    const send = async () => (await Promise.all(fleet.map((app) => app.inject('/plain')))).map(({ body }) => body)
    const done = calls
    const [body, ...others] = new Set(await send())
    assert.deepEqual(others, [])
    assert.equal(calls, done + 1)
    await fleet[0]?.cache.deleteByTag('products')
    await until(async () => {
      const bodies = new Set(await send())
      return bodies.size === 1 && !bodies.has(body as string)
    })
  })

  test('continues without Redis', async () => {
    const own = await startRedis()
    const app = await build(own.url)
    await app.inject('/plain')
    await own.kill('SIGKILL')
    for (let n = 0; n < 5; n++) assert.equal((await app.inject('/plain?down')).statusCode, 200)
  })
})
