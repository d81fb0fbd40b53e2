// What the matrix of cases does not reach: options, routes, scopes and handlers that fleet joins.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import session from '@fastify/session'
import type { FastifyInstance } from 'fastify'
import * as fleet from '../../src/index.ts'
import { cookieOf, sendCookie } from '../../src/instance/compat/cookies.ts'
import { type Any, create, secret, takeWarnings } from './cases.ts'

type Step = (app: FastifyInstance) => unknown
const orders: Record<string, (app: FastifyInstance, own: Step, ours: Step) => Promise<void>> = {
  before: async (app, own, ours) => {
    await own(app)
    await ours(app)
  },
  after: async (app, own, ours) => {
    await ours(app)
    await own(app)
  },
}

for (const [order, join] of Object.entries(orders)) {
  describe(`what the app registers ${order} fleet`, () => {
    test('is used if the option of fleet is `false`, as the error of a conflict recommends', async () => {
      const { app } = create()
      const own: Step = async (root) => {
        await root.register(cookie)
        await root.register(session, { secret, cookie: { secure: false }, saveUninitialized: false })
        await root.register(helmet, { frameguard: { action: 'deny' } })
        await root.register(cors, { origin: 'https://shop.example' })
        await root.register(rateLimit, { max: 7 })
      }
      const off = { session: false, helmet: false, cors: false, rateLimit: false } as const
      await join(app, own, (root) => root.register(fleet.fleet, off))
      app.get('/', async (request) => Object.assign(request.session, { seen: true }).sessionId)
      const { headers, cookies } = await app.inject('/')
      assert.deepEqual(
        cookies.map(({ name }) => name),
        ['sessionId'],
      )
      assert.deepEqual(
        ['x-frame-options', 'access-control-allow-origin', 'x-ratelimit-limit'].map((name) => headers[name]),
        ['DENY', 'https://shop.example', '7'],
      )
    })

    test('in a scope cannot be @fastify/cors if fleet answers preflight requests', async () => {
      const { app } = create()
      const own: Step = (root) =>
        root.register(async (scope) => void (await scope.register(cors)), { prefix: '/scope' })
      const ours: Step = (root) => root.register(fleet.fleet, { cors: { origin: 'https://a.example' } })
      const message = /@fastify\/cors is registered by the app and by fastify-fleet \(`cors`\); set `cors: false`/
      const boot = async (): Promise<void> => {
        await join(app, own, ours)
        await app.ready()
      }
      await assert.rejects(boot, { code: 'FLEET_ERR_PLUGIN_CONFLICT', message })
    })

    test('may be the nonces of @fastify/helmet, which its policy contains', async () => {
      const { app } = create()
      const own: Step = (root) => root.register(helmet, { enableCSPNonces: true })
      await join(app, own, (root) => root.register(fleet.fleet, {}))
      app.get('/', async (_request, reply) => reply.cspNonce.script)
      const { headers, body } = await app.inject('/')
      assert.match(body, /^[0-9a-f]{32}$/)
      assert.ok(String(headers['content-security-policy']).includes(`'nonce-${body}'`))
    })

    test('may be routes under the prefix of the scope that fleet joins', async () => {
      const { app } = create()
      app.register(
        async (scope) => {
          const own: Step = (inner) => inner.get('/live', async () => 'own')
          await join(scope, own, (inner) => inner.register(fleet.fleet, {}))
        },
        { prefix: '/shop' },
      )
      await app.ready()
      assert.equal((await app.inject('/shop/live')).body, 'own')
      assert.equal((await app.inject('/shop/alive')).statusCode, 200)
      assert.equal((await app.inject('/live')).statusCode, 404)
    })

    test('may be an error handler, which gets the app as `this`', async () => {
      const { app } = create()
      const own: Step = (root) =>
        root.setErrorHandler(function (_error, _request, reply) {
          void reply.code(this === root ? 418 : 500).send('own')
        })
      await join(app, own, (root) => root.register(fleet.fleet, { errorResponses: true }))
      const fails = (): Promise<never> => Promise.reject(new Error('broken'))
      app.get('/fails', fails)
      app.register(async (scope) => void scope.get('/fails', fails), { prefix: '/scope' })
      for (const url of ['/fails', '/scope/fails']) {
        const { statusCode, body } = await app.inject(url)
        assert.deepEqual([statusCode, body], [418, 'own'], url)
      }
      assert.deepEqual(takeWarnings(), [])
    })
  })
}

test('limits and headers of the app, twice in one scope and again below it, apply as they do without fleet', async () => {
  const respond = async (join: (app: FastifyInstance, own: Step) => Promise<unknown>): Promise<unknown[]> => {
    const { app } = create()
    await join(app, (root) =>
      root.register(async (scope) => {
        for (const max of [5, 3]) {
          await scope.register(rateLimit, { max })
          await scope.register(helmet, { frameguard: max === 5 && { action: 'deny' } })
        }
        scope.get('/scope', async () => 'own')
        scope.register(async (below) => {
          await below.register(rateLimit, { max: 2 })
          await below.register(helmet, { frameguard: false })
          below.get('/below', async () => 'own')
        })
      }),
    )
    const responses = [await app.inject('/scope'), await app.inject('/below')]
    const names = ['x-frame-options', 'x-ratelimit-limit', 'ratelimit-limit']
    return responses.map(({ headers }) => names.map((name) => headers[name]))
  }
  const expected = await respond(async (app, own) => own(app))
  assert.deepEqual(expected, [
    ['DENY', '3', undefined],
    ['DENY', '2', undefined],
  ])
  for (const join of Object.values(orders))
    assert.deepEqual(await respond((app, own) => join(app, own, (root) => root.register(fleet.fleet, {}))), expected)
})

test('a request decorator of fleet that a scope of the app has too ends the boot with an error that names both', async () => {
  const { app } = create()
  await app.register(fleet.fleet, {})
  app.register(async (scope) => void scope.decorateRequest('geo' as Any, null as Any))
  const message = /request\.geo.* is registered by the app and by fastify-fleet \(`geo`\); set `geo: false`/
  await assert.rejects(async () => app.ready(), { code: 'FLEET_ERR_PLUGIN_CONFLICT', message })
})

test('a plugin of fleet that is registered with options of Fastify only is replaced', async () => {
  const { app, lines } = create()
  await app.register(rateLimit, { max: 7 })
  await app.register(fleet.rateLimit, { logLevel: 'warn' } as Any)
  app.get('/', async () => 'own')
  const { headers } = await app.inject('/')
  assert.deepEqual([headers['x-ratelimit-limit'], headers['ratelimit-limit']], ['7', undefined])
  assert.ok(lines.includes('adopted: @fastify/rate-limit'))
})

test('a route of the app that fleet cannot leave out ends the boot with an error that names it', async () => {
  const { app } = create()
  app.get('/api/v1/load-balancer/instances', async () => 'own')
  const message = /route GET \/api\/v1\/load-balancer\/instances is registered by the app and by .*loadBalancer: false/
  await assert.rejects(async () => app.register(fleet.fleet, {}), { code: 'FLEET_ERR_PLUGIN_CONFLICT', message })
})

test('a name that fleet uses in a scope is free at the root', async () => {
  const { app } = create()
  await app.register(fleet.identity)
  await app.register(async (scope) => void (await scope.register(fleet.cache)))
  app.decorate('cache' as Any, { mine: true } as Any)
  await app.ready()
  assert.deepEqual(app.cache, { mine: true })
})

test('what the app registers at the root after a plugin of fleet in a scope is its own', async () => {
  const { app } = create()
  await app.register(fleet.identity)
  await app.register(async (scope) => void (await scope.register(fleet.cache)))
  app.decorate('health' as Any, { mine: true } as Any)
  const message = /app\.health.* is registered by the app and by fastify-fleet \(`health`\)/
  await assert.rejects(async () => app.register(fleet.health), { code: 'FLEET_ERR_PLUGIN_CONFLICT', message })
})

describe('a cookie without the hook of the app’s @fastify/cookie', () => {
  const sent = (protocol: string, options: object): unknown[] => {
    const found: unknown[] = []
    const serializeCookie = (...args: unknown[]): string => void found.push(...args) as never
    const request = { cookies: null, protocol }
    sendCookie({ request, server: { serializeCookie }, header() {} } as never, 'sid', 'x', options)
    return found
  }

  test('is for TLS only if that is asked for, or was used', () => {
    for (const [protocol, secure, expected] of [
      ['http', 'auto', false],
      ['https', 'auto', true],
      ['http', true, true],
      ['https', false, false],
      ['https', undefined, false],
    ] as const)
      assert.deepEqual(sent(protocol, { secure }), ['sid', 'x', { sameSite: 'lax', secure: expected }])
  })

  test('is read by its name, from the parsed cookies if there are any', () => {
    const server = { parseCookie: (text: string) => Object.fromEntries(new URLSearchParams(text)) }
    const read = (cookies: object | null, cookie?: string): unknown =>
      cookieOf({ cookies, headers: { cookie }, server } as never, 'sid')
    assert.equal(read(null, 'other=1&sid=mine'), 'mine')
    assert.equal(read(null), undefined)
    assert.equal(read({ other: '1', sid: 'parsed' }, 'sid=raw'), 'parsed')
    assert.equal(read({}, 'sid=raw'), undefined)
  })

  test('has the options of its plugin', () => {
    const options = { path: '/', httpOnly: true, sameSite: 'strict', secure: true }
    assert.deepEqual(sent('https', options), ['sid', 'x', options])
  })
})
