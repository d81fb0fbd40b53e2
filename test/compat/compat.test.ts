import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import session from '@fastify/session'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type FleetOptions, fleet } from '../../src/index.ts'
import { type Any, type Case, cases, create, secret, takeWarnings } from './cases.ts'

const adoptedIn = (lines: readonly string[]): string | undefined => lines.find((line) => line.startsWith('adopted: '))

const orders = {
  before: async (app: FastifyInstance, own: (app: FastifyInstance) => unknown) => {
    await own(app)
    await app.register(fleet, {})
  },
  after: async (app: FastifyInstance, own: (app: FastifyInstance) => unknown) => {
    await app.register(fleet, {})
    await own(app)
  },
  // Without `await`, Fastify runs both when the app becomes ready.
  'after, not awaited': async (app: FastifyInstance, own: (app: FastifyInstance) => unknown) => {
    app.register(fleet, {})
    app.register(fp(async (inner) => void (await own(inner))))
  },
  'before, not awaited': async (app: FastifyInstance, own: (app: FastifyInstance) => unknown) => {
    app.register(fp(async (inner) => void (await own(inner))))
    app.register(fleet, {})
  },
}

for (const { name, adopted, register, check, rootOnly } of cases) {
  if (rootOnly) continue
  for (const order of ['before', 'after'] as const) {
    // As with `fastify start`, which registers the app as a plugin.
    test(`${name}, ${order}, in an app that is a plugin`, async () => {
      const { app, lines } = create()
      app.register(async (inner) => orders[order](inner, register))
      await app.ready()
      await check(app, '')
      for (const one of adopted?.split(', ') ?? []) assert.match(adoptedIn(lines) ?? '', new RegExp(one))
      assert.deepEqual(takeWarnings(), [])
    })
  }
}

for (const { name, adopted, adoptedInScope, register, check, rootOnly } of cases) {
  for (const [order, join] of Object.entries(orders)) {
    test(`${name}, ${order}, at the root`, async () => {
      const { app, lines } = create()
      await join(app, register)
      app.get('/own', async () => 'own')
      await app.ready()
      await check(app, '')
      assert.equal((await app.inject('/own')).body, 'own')
      if (adopted === undefined) assert.equal(adoptedIn(lines)?.includes(name), undefined)
      else for (const one of String(adopted).split(', ')) assert.match(adoptedIn(lines) ?? '', new RegExp(one))
      assert.deepEqual(takeWarnings(), [])
    })
    if (rootOnly) continue
    test(`${name}, ${order}, in a scope`, async () => {
      const { app, lines } = create()
      const scope = async (inner: FastifyInstance): Promise<void> => void (await register(inner))
      await join(app, (outer) => outer.register(scope, { prefix: '/scope' }))
      app.get('/own', async () => 'own')
      await app.ready()
      await check(app, '/scope')
      const { headers, body } = await app.inject('/own')
      assert.equal(body, 'own')
      assert.match(
        String(headers['content-security-policy']),
        /default-src 'self'/,
        "the rest of the app has fleet's headers",
      )
      if (adoptedInScope) assert.match(adoptedIn(lines) ?? '', new RegExp(`${adopted} in /scope`))
      assert.deepEqual(takeWarnings(), [])
    })
  }
}

test("warns in production if the app's own sessions are in memory", async (t) => {
  const { NODE_ENV, FLEET_ALLOW_MEMORY, JWT_SECRET } = process.env
  Object.assign(process.env, { NODE_ENV: 'production', FLEET_ALLOW_MEMORY: '1', JWT_SECRET: secret })
  t.after(() => {
    for (const [name, value] of Object.entries({ NODE_ENV, FLEET_ALLOW_MEMORY, JWT_SECRET }))
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
  })
  const done = (...args: Any[]): void => args.at(-1)(null)
  for (const store of [undefined, { get: done, set: done, destroy: done }]) {
    const { app, lines } = create()
    await app.register(cookie)
    await app.register(session, { secret, ...(store && { store }) })
    await app.register(fleet, { lifecycle: { signals: false } })
    await app.ready()
    const warned = lines.some((line) => line.includes('keeps sessions in memory') && line.includes('new FleetStore('))
    assert.equal(warned, store === undefined)
    assert.equal(app.fleet.facts.sessionStore, store === undefined ? 'memory' : 'custom')
  }
})

test('request ids of the app are kept', async () => {
  const { app } = create({ genReqId: () => 'mine' })
  await app.register(fleet, {})
  app.get('/', async ({ id }) => id)
  assert.equal((await app.inject('/')).body, 'mine')

  const { app: byHeader } = create({ requestIdHeader: 'x-mine' })
  await byHeader.register(fleet, {})
  byHeader.get('/', async ({ id }) => id)
  assert.equal((await byHeader.inject({ url: '/', headers: { 'x-mine': 'abc' } })).body, 'abc')
})

test('docs/compatibility.md has a row for each case', () => {
  const page = readFileSync(new URL('../../docs/compatibility.md', import.meta.url), 'utf8')
  const [matrix = ''] = page.split('*Adopted*')
  const documented = [...matrix.matchAll(/^\| (.*?) \| (.*) \|$/gm)]
    .slice(1)
    .map(([, name, cells]) => `${name}: ${cells}`)
  const expected = cases.map(({ name, adopted, adoptedInScope, rootOnly }) => {
    const root = adopted ? 'adopted' : 'works'
    const scope = rootOnly ? '–' : adoptedInScope ? 'adopted' : 'works'
    return `${name}: ${[root, root, scope, scope].join(' | ')}`
  })
  assert.deepEqual(documented, expected)
})

for (const order of ['before', 'after'] as const) {
  for (const hook of ['onRequest', 'preParsing', 'preHandler', false] as const) {
    test(`fleet's sessions use a @fastify/cookie of the app with hook ${hook}, ${order}`, async () => {
      const { app } = create()
      await orders[order](app, (inner) => inner.register(cookie, { hook }))
      app.get('/visits', async ({ session }) => {
        session.visits = (session.visits ?? 0) + 1
        return String(session.visits)
      })
      let cookies: Record<string, string> = { other: 'of the app' }
      for (const visits of ['1', '2', '3']) {
        const response = await app.inject({ url: '/visits', cookies })
        assert.equal(response.body, visits)
        for (const { name, value } of response.cookies) cookies = { ...cookies, [name]: value }
      }
    })
  }
}

for (const order of ['before', 'after'] as const) {
  test(`decorators of the app that fleet's options leave out are not taken for fleet's, ${order}`, async () => {
    const names = ['metrics', 'overload', 'cache', 'tokens', 'sessions'] as const
    const { app } = create()
    const own = (): void => {
      for (const name of names) app.decorate(name as Any, { mine: name } as Any)
    }
    if (order === 'before') own()
    await app.register(fleet, { metrics: false, overload: false, cache: false, jwt: false, session: false })
    if (order === 'after') own()
    app.get('/own', async () => 'own')
    await app.ready()
    assert.equal((await app.inject('/own')).body, 'own')
    for (const name of names) assert.deepEqual(app[name], { mine: name })
  })
}

test('a scope may have a decorator with the name of one of fleet', async () => {
  const { app } = create()
  await app.register(fleet, {})
  app.register(async (scope) => {
    scope.decorate('cache' as Any, { mine: true } as Any)
    scope.get('/cache', async () => scope.cache)
  })
  await app.ready()
  assert.deepEqual((await app.inject('/cache')).json(), { mine: true })
  assert.equal(typeof app.cache.getOrSet, 'function')
})

/** Two configurations of one thing. */
const conflicts: readonly { name: string; own: Case['register']; options: FleetOptions; message: RegExp }[] = [
  {
    name: '@fastify/helmet',
    own: (app) => app.register(helmet),
    options: { helmet: { frameguard: false } },
    message: /@fastify\/helmet.*app.*fastify-fleet.*helmet: false/,
  },
  {
    name: '@fastify/cors',
    own: (app) => app.register(cors),
    options: { cors: { origin: 'https://a.example' } },
    message: /@fastify\/cors.*app.*fastify-fleet.*cors: false/,
  },
  {
    name: '@fastify/rate-limit',
    own: (app) => app.register(rateLimit),
    options: { rateLimit: { max: 10 } },
    message: /@fastify\/rate-limit.*app.*fastify-fleet.*rateLimit: false/,
  },
  {
    name: '@fastify/session',
    own: async (app) => {
      await app.register(cookie)
      await app.register(session, { secret })
    },
    options: { session: { secret } },
    message: /request\.session.*app.*fastify-fleet.*session: false/,
  },
  {
    name: 'request.geo',
    own: (app) => app.decorateRequest('geo' as Any, null as Any),
    options: {},
    message: /request\.geo.*app.*fastify-fleet.*geo: false/,
  },
  {
    name: 'app.health',
    own: (app) => app.decorate('health' as Any, {} as Any),
    options: {},
    message: /app\.health.*app.*fastify-fleet.*rename/,
  },
  {
    name: 'app.cache',
    own: (app) => app.decorate('cache' as Any, {} as Any),
    options: {},
    message: /app\.cache.*app.*fastify-fleet.*cache: false/,
  },
]
for (const { name, own, options, message } of conflicts) {
  for (const order of ['before', 'after'] as const) {
    test(`${name} that cannot be adopted, ${order}, ends the boot with an error that names both`, async () => {
      const { app } = create()
      const boot = async (): Promise<void> => {
        if (order === 'before') await own(app)
        await app.register(fleet, options)
        if (order === 'after') await own(app)
        await app.ready()
      }
      await assert.rejects(boot, { code: 'FLEET_ERR_PLUGIN_CONFLICT', message })
    })
  }
}

test('a route of the app with a constraint is used where that holds, and fleet’s own elsewhere', async () => {
  for (const order of ['before', 'after'] as const) {
    const { app } = create()
    await orders[order](app, (inner) =>
      inner.get('/live', { constraints: { host: 'shop.example' } }, async () => 'of the app'),
    )
    await app.ready()
    assert.equal((await app.inject({ url: '/live', headers: { host: 'shop.example' } })).body, 'of the app')
    const { body, statusCode } = await app.inject({ url: '/live', headers: { host: 'other.example' } })
    assert.equal(statusCode, 200, order)
    assert.notEqual(body, 'of the app', order)
  }
})

test('a decorator in place of fleet’s own is added once, as in any app', async () => {
  const { app } = create()
  await app.register(fleet, {})
  app.decorate('redis', { mine: true } as Any)
  assert.throws(() => app.decorate('redis', { mine: false } as Any), { code: 'FST_ERR_DEC_ALREADY_PRESENT' })
  assert.deepEqual(app.redis, { mine: true })
})

test('an error handler of a scope is for that scope only', async () => {
  const { app } = create()
  await app.register(fleet, { errorResponses: true })
  const fails = (): Promise<never> => Promise.reject(new Error('broken'))
  app.register(
    async (scope) => {
      scope.setErrorHandler((_error, _request, reply) => reply.code(418).send('of the scope'))
      scope.get('/fails', fails)
    },
    { prefix: '/scope' },
  )
  app.get('/fails', fails)
  assert.deepEqual([(await app.inject('/scope/fails')).statusCode, (await app.inject('/fails')).statusCode], [418, 500])
})

test('sessions and limits of the app in a scope are used in the scopes below it, too', async () => {
  const { app } = create()
  await app.register(fleet, {})
  app.register(async (scope) => {
    await scope.register(cookie)
    await scope.register(session, { secret, cookie: { secure: false }, saveUninitialized: false })
    await scope.register(rateLimit, { global: false })
    scope.register(async (below) => {
      below.get('/below', { config: { rateLimit: { max: 9, timeWindow: 60_000 } } }, async (request) => {
        Object.assign(request.session, { seen: true })
        return 'below'
      })
    })
  })
  const { headers, cookies } = await app.inject('/below')
  assert.deepEqual([headers['x-ratelimit-limit'], headers['ratelimit-limit']], ['9', undefined])
  assert.deepEqual(
    cookies.map(({ name }) => name),
    ['sessionId'],
  )
})
