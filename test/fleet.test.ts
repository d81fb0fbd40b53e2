import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { type FleetOptions, fleet } from '../src/index.ts'
import * as plugins from '../src/plugins.ts'
import { fleetSecrets } from '../src/state/registry/fleet-keys.ts'
import { startRedis } from './helpers/redis.ts'

async function build(t: TestContext, options: FleetOptions = {}): Promise<FastifyInstance> {
  const app = Fastify({ bodyLimit: 1_024 })
  t.after(() => app.close())
  await app.register(fleet, {
    errorResponses: true,
    lifecycle: { signals: false },
    redis: { client: null },
    ...options,
  })
  app.get('/', async (request) => {
    request.session.visits = (request.session.visits ?? 0) + 1
    return { visits: request.session.visits }
  })
  app.post(
    '/echo',
    { schema: { body: { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } } } },
    async (request) => request.body,
  )
  app.get('/private', { preHandler: app.authenticate }, async (request) => ({ user: request.user?.sub }))
  app.get('/broken', async () => {
    throw new Error('connect ECONNREFUSED 10.1.2.3:5432 password=hunter2')
  })
  return app
}

describe('umbrella plugin', () => {
  it('registers every plugin', async (t) => {
    const app = await build(t)
    const first = await app.inject('/')
    assert.deepEqual(first.json(), { visits: 1 })
    assert.doesNotMatch(String(first.headers['content-security-policy']), /upgrade-insecure|undefined/)
    const cookie = String(first.headers['set-cookie']).split(';')[0] ?? ''
    assert.deepEqual((await app.inject({ url: '/', headers: { cookie } })).json(), { visits: 2 })
    const { accessToken } = await app.tokens.issue('ada', {})
    const authorization = `Bearer ${accessToken}`
    assert.deepEqual((await app.inject({ url: '/private', headers: { authorization } })).json(), { user: 'ada' })
    assert.equal(await app.cache.getOrSet('k', 1_000, () => 7), 7)
    assert.equal(await app.fleet.lock('job', async () => 8), 8)
    assert.equal(app.fleet.peers().length, 1)
  })

  it('registers its plugins in the order in which a request meets them, and none that is disabled or not asked for', async (t) => {
    const namesOf = async (options: FleetOptions): Promise<string[]> => {
      const app = Fastify()
      t.after(() => app.close())
      await app.register(fleet, { lifecycle: { signals: false }, redis: { client: null }, ...options })
      await app.ready()
      return [...app.printPlugins().matchAll(/ fleet-([\w-]+) /g)].map(([, name = '']) => name)
    }
    const [first, core] = ['identity overload lifecycle operators', 'load metrics health']
    const all = [
      `${first} error-responses static-headers headers helmet ${core} load-balancer agent-check geo redis`,
      'operator-links broadcast registry locks rate-limit session jwt cache http-cache idempotency',
      'dashboard history worker',
    ]
    assert.equal((await namesOf({})).join(' '), all.join(' '))
    assert.equal(
      (await namesOf({ preset: 'core' })).join(' '),
      `${first} static-headers headers ${core} redis session worker`,
    )
    const cors = { origin: 'https://shop.example' }
    const given = await namesOf({ preset: 'core', cors, cache: {}, headers: false, helmet: false })
    assert.equal(given.join(' '), `${first} cors ${core} redis session cache broadcast worker`)
    const without = await namesOf({ headers: false, helmet: false, cache: false, jwt: false, geo: false })
    for (const name of ['headers', 'static-headers', 'helmet', 'cache', 'http-cache', 'jwt', 'geo'])
      assert.ok(!without.includes(name), name)
  })

  it('has each plugin under the name that the plugin has in its own module', async () => {
    const nameOf = (plugin: object): string | undefined =>
      (plugin as Record<symbol, { readonly name: string } | undefined>)[Symbol.for('plugin-meta')]?.name
    const source = readFileSync(new URL('../src/plugins.ts', import.meta.url), 'utf8')
    const loaded = [...source.matchAll(/import\('\.(\/[^']+)'\)/g)].map(([, path]) => import(`../src${path}`))
    const own: Record<string, object> = Object.assign({}, ...(await Promise.all(loaded)))
    const names = Object.entries(plugins).filter(([, plugin]) => nameOf(plugin)?.startsWith('fleet-'))
    assert.ok(names.length > 20)
    // That of @fastify/cors is made here.
    for (const [name, plugin] of names) if (name !== 'cors') assert.equal(nameOf(own[name] ?? {}), nameOf(plugin), name)
  })

  it('serves every endpoint of its own', async (t) => {
    const app = await build(t)
    await app.ready()
    const root = '/api/v1/load-balancer'
    for (const url of [
      '/live',
      '/alive',
      '/health',
      '/health/detailed',
      '/metrics',
      '/fleet',
      ...['health', 'instances', 'metrics', 'config'].map((name) => `${root}/${name}`),
    ]) {
      const response = await app.inject(url)
      assert.equal(response.statusCode, 200, `${url}: ${response.body}`)
      assert.equal(response.headers['cache-control'], 'no-store', url)
    }
    for (const name of ['health-check', 'drain', 'undrain']) {
      const headers = { 'content-type': 'application/json' }
      assert.equal((await app.inject({ method: 'POST', url: `${root}/${name}`, headers })).statusCode, 200, name)
    }
  })

  const forged = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from('{"sub":"root"}').toString('base64url')}.`
  const json = { 'content-type': 'application/json' }
  for (const [what, request, status] of [
    ['an unknown path', { url: '/nowhere' }, 404],
    ['an unknown method', { url: '/', method: 'DELETE' }, 404],
    ['an invalidly encoded path', { url: '/%zz' }, 400],
    ['a body that is not JSON', { url: '/echo', method: 'POST', headers: json, payload: '{' }, 400],
    ['a body of the wrong type', { url: '/echo', method: 'POST', headers: json, payload: '{"n":"many"}' }, 400],
    ['no body', { url: '/echo', method: 'POST' }, 400],
    [
      'a body of an unknown type',
      { url: '/echo', method: 'POST', headers: { 'content-type': 'text/x' }, payload: 'x' },
      415,
    ],
    [
      'an oversized body',
      { url: '/echo', method: 'POST', headers: json, payload: JSON.stringify({ n: 1, pad: 'x'.repeat(2_000) }) },
      413,
    ],
    [
      'a body that would pollute a prototype',
      { url: '/echo', method: 'POST', headers: json, payload: '{"__proto__":{"n":1}}' },
      400,
    ],
    ['no token', { url: '/private' }, 401],
    ['a malformed token', { url: '/private', headers: { authorization: 'Bearer nonsense' } }, 401],
    ['an unsigned token', { url: '/private', headers: { authorization: `Bearer ${forged}` } }, 401],
    ['a token of another scheme', { url: '/private', headers: { authorization: 'Basic YTpi' } }, 401],
    ['an oversized token', { url: '/private', headers: { authorization: `Bearer ${'x'.repeat(9_000)}` } }, 401],
    ['an error of a lower layer', { url: '/broken' }, 500],
  ] as const) {
    it(`responds to ${what} with ${status}, a code and no stack`, async (t) => {
      const app = await build(t)
      const response = await app.inject(request as object)
      assert.equal(response.statusCode, status, response.body)
      assert.match(String(response.headers['content-type']), /^application\/json/)
      assert.doesNotMatch(response.body, /\s at |node_modules|hunter2|10\.1\.2\.3/)
      if (status !== 404) assert.match(response.json().code, /^(FLEET|FST)_ERR_/)
      // Fastify rejects paths that it cannot decode before any hook runs.
      if (!request.url.includes('%')) assert.ok(response.headers['x-instance-id'])
    })
  }

  for (const cookie of [
    'fleet.sid=nonsense',
    'fleet.sid=',
    'fleet.sid=a.b',
    `fleet.sid=${'x'.repeat(4_000)}`,
    'fleet.sid=%zz; ;;=',
  ]) {
    it(`ignores an invalid cookie: ${cookie.slice(0, 30)}`, async (t) => {
      const app = await build(t)
      const response = await app.inject({ url: '/', headers: { cookie } })
      assert.deepEqual([response.statusCode, response.json().visits], [200, 1])
    })
  }

  it('rejects an unknown option, an invalid value and an invalid option of a plugin', async () => {
    for (const [options, code] of [
      [{ nane: 'shop' }, 'FLEET_ERR_OPTION_UNKNOWN'],
      [{ name: 7 }, 'FLEET_ERR_OPTION_INVALID'],
      [{ lifecycle: { drainDelayMs: '5s' } }, 'FLEET_ERR_OPTION_INVALID'],
      [{ session: { secret: 'short' } }, 'FLEET_ERR_SECRET_WEAK'],
    ] as const) {
      const app = Fastify()
      await assert.rejects(
        async () =>
          await app.register(fleet, {
            redis: { client: null },
            lifecycle: { signals: false },
            ...options,
          } as FleetOptions),
        { code },
      )
    }
  })

  it('disables plugins', async (t) => {
    const app = await build(t, {
      helmet: false,
      cors: false,
      metrics: false,
      dashboard: false,
      loadBalancer: false,
      headers: false,
    })
    const response = await app.inject('/metrics')
    assert.equal(response.statusCode, 404)
    assert.equal(response.headers['x-instance-id'], undefined)
    assert.equal(response.headers['x-frame-options'], undefined)
    assert.equal((await app.inject('/fleet')).statusCode, 404)
    assert.equal((await app.inject('/live')).statusCode, 200)
  })

  it('is stateless on Redis, where two instances share sessions and tokens', async (t) => {
    const redis = await startRedis()
    t.after(() => redis.stop())
    const secret = 'a-secret-of-more-than-thirty-two-bytes'
    const options = { name: 'umbrella', redis: { url: redis.url }, session: { secret }, jwt: { secret } }
    const [one, two] = [await build(t, options), await build(t, options)]
    const first = await one.inject('/')
    assert.equal(first.headers['x-stateless'], 'true')
    assert.equal(first.headers['x-session-shared'], 'true')
    const cookie = String(first.headers['set-cookie']).split(';')[0] ?? ''
    assert.deepEqual((await two.inject({ url: '/', headers: { cookie } })).json(), { visits: 2 })
    const { accessToken } = await one.tokens.issue('ada', {})
    const authorization = `Bearer ${accessToken}`
    assert.equal((await two.inject({ url: '/private', headers: { authorization } })).statusCode, 200)
    const other = await build(t, { ...options, session: { secret: secret.toUpperCase() } })
    assert.deepEqual((await other.inject({ url: '/', headers: { cookie } })).json(), { visits: 1 }, 'another secret')

    // What signs the messages between instances.
    const [own, ofFleet] = ['b'.repeat(32), 'f'.repeat(32)]
    const signedWith = async (given: FleetOptions): Promise<readonly string[]> =>
      fleetSecrets(await build(t, { name: 'signed', redis: { url: redis.url }, ...given }))
    assert.deepEqual(await signedWith({ session: { secret }, jwt: { secret: own } }), [secret])
    assert.deepEqual(await signedWith({ session: false, jwt: { secret } }), [secret])
    assert.deepEqual(await signedWith({ session: { secret }, broadcast: { secret: own } }), [own])
    const { FLEET_SECRET } = process.env
    process.env.FLEET_SECRET = ofFleet
    try {
      assert.deepEqual(await signedWith({ session: { secret } }), [ofFleet])
    } finally {
      if (FLEET_SECRET === undefined) delete process.env.FLEET_SECRET
      else process.env.FLEET_SECRET = FLEET_SECRET
    }
  })
})
