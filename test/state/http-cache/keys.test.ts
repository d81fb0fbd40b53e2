import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { after, describe, test } from 'node:test'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { clientKey } from '../../../src/instance/client-key.ts'
import { identity } from '../../../src/instance/identity.ts'
import { cache } from '../../../src/state/cache/index.ts'
import { httpCache, type RouteCache } from '../../../src/state/http-cache/index.ts'
import { rateLimit } from '../../../src/state/rate-limit/index.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { startRedis } from '../../helpers/redis.ts'
import { patient, patientApp } from '../redis/patience.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

const config = (more: Partial<RouteCache> = {}) => ({ config: { cache: { ttlMs: 60_000, ...more } } })
let calls = 0

async function build(server: FastifyServerOptions = {}, url?: string, max: number | false = false) {
  const app = Fastify({ ...patientApp, ...server })
  apps.push(app)
  await app.register(identity, { name: `keys-${apps.length}` })
  await app.register(redis, url ? { url, ...patient } : { client: null })
  await app.register(rateLimit, { max })
  await app.register(cache, { jitter: 0 })
  await app.register(httpCache)
  app.decorateRequest('tenant', '')
  app.addHook('onRequest', async (request) => {
    ;(request as { tenant?: string }).tenant = `${request.protocol}://${request.host}`
  })
  // Everything that a handler can read from a request.
  const everything = async (request: Parameters<typeof clientKey>[0]) => ({
    headers: request.headers,
    tenant: (request as { tenant?: string }).tenant,
    base: `${request.protocol}://${request.host} ${request.hostname} ${request.port}`,
    client: [request.ip, request.ips, clientKey(request), request.socket.remoteAddress],
    url: [request.url, request.originalUrl, request.query, request.params],
    call: ++calls,
  })
  app.get('/page', config(), everything)
  app.get('/files/*', config(), everything)
  app.get('/other', config(), async () => 'another route')
  app.get('/secret', { preHandler: async () => Promise.reject(new Error('not for you')) }, async () => 'secret')
  app.get('/proto', config({ vary: ['X-Forwarded-Proto'] }), async ({ headers }) => headers['x-forwarded-proto'])
  app.get('/few', config({ maxEntries: 3 }), async () => ++calls)
  app.get('/tagged/*', config({ tags: ({ params }) => [`file ${(params as { '*': string })['*']}`] }), everything)
  for (const version of ['1.0.0', '2.0.0'])
    app.get('/api', { ...config(), constraints: { version } }, async () => `${version} ${++calls}`)
  app.get('/api', config(), async () => `none ${++calls}`)
  return app
}

const poison = {
  'x-forwarded-host': 'poison.example',
  'x-forwarded-for': '6.6.6.6',
  'x-forwarded-proto': 'poison',
  'x-forwarded-port': 'poison',
  'x-forwarded-prefix': '/poison',
  'x-forwarded-server': 'poison',
  'x-forwarded-scheme': 'poison',
  'x-original-url': '/poison',
  'x-rewrite-url': '/poison',
  'x-original-host': 'poison',
  'x-host': 'poison',
  'x-real-ip': '6.6.6.6',
  'x-http-method-override': 'POISON',
  'x-api-key': 'poison',
  forwarded: 'for=6.6.6.6;host=poison',
  via: '1.1 poison',
  origin: 'https://poison.example',
  referer: 'https://poison.example',
  'user-agent': 'poison',
  accept: 'poison/poison',
  'accept-language': 'poison',
  'accept-version': '2.0.0',
  range: 'bytes=0-1',
  'if-none-match': '"poison"',
}
const victim = { host: 'shop.example' }

describe('a shared response', () => {
  for (const trustProxy of [false, true, '10.0.0.0/8'] as const)
    test(`depends on the key only, with trustProxy ${trustProxy}`, async () => {
      const app = await build({ trustProxy })
      for (const url of ['/page', '/files/a', '/page?q=1'])
        for (const [name, value] of Object.entries(poison)) {
          const at = `${url}${url.includes('?') ? '&' : '?'}${name}`
          await app.inject({ url: at, headers: { ...victim, [name]: value }, remoteAddress: '6.6.6.6' })
          const { body } = await app.inject({ url: at, headers: victim, remoteAddress: '198.51.100.1' })
          assert.doesNotMatch(body.replaceAll(at, ''), /poison|6\.6\.6\.6/i, name)
          const { headers, base, tenant } = JSON.parse(body)
          assert.deepEqual([base.split(' ')[0], tenant], ['http://shop.example', 'http://shop.example'])
          assert.deepEqual(Object.keys(headers).sort(), ['host', 'user-agent', 'x-fleet-cache-load'])
        }
    })

  test('is stored per scheme and host as the application sees them, and the handler sees the same', async () => {
    const app = await build({ trustProxy: true })
    const send = async (proto: string, host: string) => {
      const headers = { host: 'front', 'x-forwarded-proto': proto, 'x-forwarded-host': host }
      return (await app.inject({ url: '/page', headers })).json()
    }
    for (const proto of ['http', 'https'])
      for (const host of ['a.example', 'b.example:8443']) {
        const { base, tenant } = await send(proto, host)
        assert.deepEqual([base.split(' ')[0], tenant], [`${proto}://${host}`, `${proto}://${host}`])
      }
    const done = calls
    await send('https', 'a.example')
    assert.equal(calls, done)
  })

  test('can depend on further headers, which then reach the handler', async () => {
    const app = await build()
    const send = async (proto: string) =>
      (await app.inject({ url: '/proto', headers: { 'x-forwarded-proto': proto } })).body
    assert.deepEqual([await send('https'), await send('http'), await send('https')], ['https', 'http', 'https'])
  })

  test('differs by a header that is empty or named like a member of Object.prototype', async () => {
    const app = await build()
    app.get('/odd', config({ vary: ['constructor', 'x-a'] }), async ({ headers }) => [
      Object.hasOwn(headers, 'constructor') ? headers.constructor : 'none',
      headers['x-a'] ?? 'none',
    ])
    const send = async (headers: Record<string, string>) => (await app.inject({ url: '/odd', headers })).json()
    assert.deepEqual(await send({ 'x-a': '' }), ['none', ''])
    assert.deepEqual(await send({}), ['none', 'none'])
    assert.deepEqual(await send({ constructor: 'x' }), ['x', 'none'])
    assert.deepEqual(await send({}), ['none', 'none'])
  })

  test('belongs to the requested version of the route', async () => {
    const app = await build()
    const send = async (version?: string) =>
      (await app.inject({ url: '/api', headers: version ? { 'accept-version': version } : {} })).body
    const all = [await send('1.x'), await send('2.x'), await send(), await send('1.x'), await send('2.x'), await send()]
    assert.deepEqual(
      all.map((body) => body.split(' ')[0]),
      ['1.0.0', '2.0.0', 'none', '1.0.0', '2.0.0', 'none'],
    )
    assert.deepEqual(all.slice(0, 3), all.slice(3))
  })
})

describe('an ambiguous URL', () => {
  /** Over a raw socket, because HTTP clients normalize URLs. */
  async function raw(app: FastifyInstance, target: string, host = 'Host: shop.example\r\n'): Promise<string> {
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
    socket.end(`GET ${target} HTTP/1.1\r\n${host}Connection: close\r\n\r\n`)
    let text = ''
    socket.setEncoding('latin1').on('data', (chunk) => {
      text += chunk
    })
    await once(socket, 'close')
    return text
  }

  test('never stores the response of another route, or an error', async () => {
    const app = await build()
    await app.listen({ host: '127.0.0.1', port: 0 })
    for (const target of [
      '/files/../other',
      '/files/..%2fother',
      '/files/%2e%2e/other',
      '/files/a/../../secret',
      '/files/a\\..\\other',
      '/files/"<>',
      '/files/a#b',
      "/files/a?q='",
      '/files/é',
      '//shop.example/files/a',
      'http://shop.example/files/a',
      'http://[/files/a',
      'http://shop.example:99999/files/a',
    ])
      for (let n = 0; n < 2; n++) {
        const text = await raw(app, target)
        assert.match(text, /^HTTP\/1\.1 (?:200|400|404) /, target)
        assert.doesNotMatch(text, /another route|not for you/, target)
        if (/^HTTP\/1\.1 200/.test(text)) assert.match(text, /"url":\[/)
      }
    assert.match(await raw(app, '/page', 'Host:\r\n'), /fwd=bypass/)
  })

  test('goes to the handler if it is too long for a tag', async () => {
    const app = await build()
    const { statusCode, headers } = await app.inject(`/tagged/${'x'.repeat(2_000)}`)
    assert.deepEqual([statusCode, headers['cache-status']], [200, 'fleet; fwd=bypass'])
  })
})

describe('a flood of made-up URLs', () => {
  test('stores at most `maxEntries` responses per route and sends the rest to the handler', async () => {
    const { url } = await startRedis()
    const app = await build({}, url)
    await app.inject('/few?known')
    const statuses: unknown[] = []
    for (let n = 0; n < 6; n++) statuses.push((await app.inject(`/few?${n}`)).headers['cache-status'])
    const [miss, bypass] = ['fleet; fwd=miss', 'fleet; fwd=bypass']
    assert.deepEqual(statuses, [miss, miss, bypass, bypass, bypass, bypass])
    assert.equal((await app.inject('/few?known')).headers['cache-status'], 'fleet; hit')
    assert.equal((await app.inject('/page')).headers['cache-status'], miss)
    const keys = ((await app.redis?.keys('*http:*')) ?? []).filter((key) => key.includes('/few'))
    assert.ok(keys.length <= 3, keys.join())
  })

  test('from one client does not use up the limit of the route', async () => {
    const app = await build()
    const send = async (url: string, remoteAddress: string) =>
      (await app.inject({ url, remoteAddress })).headers['cache-status']
    let stored = 0
    for (let n = 0; n < 700; n++)
      if ((await send(`/page?${n}`, `2001:db8:1:2::${n.toString(16)}`)) === 'fleet; fwd=miss') stored++
    assert.equal(stored, 600)
    assert.equal(await send('/page?other', '2001:db8:1:3::1'), 'fleet; fwd=miss')
  })

  test('counts once against the rate limit of the client that sent it', async () => {
    const app = await build({}, undefined, 2)
    const send = async (url: string, remoteAddress = '198.51.100.1') =>
      (await app.inject({ url, remoteAddress })).statusCode
    assert.deepEqual([await send('/page?a'), await send('/page?b'), await send('/page?c')], [200, 200, 429])
    assert.equal(await send('/page?d', '198.51.100.2'), 200)
  })

  test('is stored for every client, because the requests of the cache itself count against no limit', async () => {
    const app = await build({}, undefined, 2)
    const send = async (url: string, remoteAddress: string) => (await app.inject({ url, remoteAddress })).body
    for (let n = 1; n <= 5; n++) {
      const first = await send(`/page?${n}`, `198.51.100.${n}`)
      assert.equal(await send(`/page?${n}`, `203.0.113.${n}`), first, `the response to client ${n}`)
    }
  })
})

test('routes of one URL that differ by a constraint of the app never get the responses of each other', async () => {
  const tenant = {
    name: 'tenant',
    storage() {
      const handlers = new Map<string, unknown>()
      return {
        get: (name: string) => handlers.get(name) ?? null,
        set: (name: string, handler: unknown) => void handlers.set(name, handler),
      }
    },
    validate() {},
    deriveConstraint: ({ headers }: { headers: Record<string, string> }) => headers['x-tenant'],
  }
  for (const order of [
    ['a', 'none', 'b'],
    ['none', 'a', 'b'],
  ]) {
    const app = await build({ routerOptions: { constraints: { tenant } } as never })
    for (const name of ['a', 'b'])
      app.get('/of', { ...config(), constraints: { tenant: name } as never }, async () => `of ${name}`)
    app.get('/of', config(), async () => 'of none')
    for (const name of [...order, ...order]) {
      const headers: Record<string, string> = name === 'none' ? {} : { 'x-tenant': name }
      assert.equal((await app.inject({ url: '/of', headers })).body, `of ${name}`)
    }
  }
})

test('the handler of a cached response sees the address of no client', async () => {
  const app = await build()
  const { client } = (await app.inject({ url: '/page', remoteAddress: '127.0.0.1' })).json()
  assert.deepEqual([client[0], client[2], client[3]], ['192.0.2.0', '192.0.2.0', '192.0.2.0'])
})

test('a route with more responses than it may store is logged once', async () => {
  const lines: string[] = []
  const app = await build({ logger: { level: 'warn', stream: { write: (line: string) => void lines.push(line) } } })
  for (let i = 0; i < 6; i++) await app.inject(`/few?${i}`)
  const [line, ...others] = lines.filter((text) => text.includes('maxEntries'))
  assert.match(line ?? '', /cache: \/few has more than 3 responses/)
  assert.deepEqual(others, [])
})

test('the id of an internal request is worth nothing once its response is there', async () => {
  const app = await build()
  let id: unknown
  app.get('/id', config(), async ({ headers }) => {
    id = headers['x-fleet-cache-load']
    return 'x'
  })
  await app.inject('/id')
  assert.match(String(id), /^[\da-f-]{36}$/)
  const { headers } = await app.inject({ url: '/id', headers: { 'x-fleet-cache-load': String(id) } })
  assert.equal(headers['cache-status'], 'fleet; hit')
})
