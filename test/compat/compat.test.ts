import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, test } from 'node:test'
import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import { FastifyOtelInstrumentation } from '@fastify/otel'
import rateLimit from '@fastify/rate-limit'
import session from '@fastify/session'
import swagger from '@fastify/swagger'
import underPressure from '@fastify/under-pressure'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type FleetOptions, fleet } from '../../src/index.ts'

// Its types declare `request.user` for the whole program.
const { default: jwt } = await import('@fastify/jwt' as string)

// biome-ignore lint/suspicious/noExplicitAny: the types of plugins that both declare the same members
type Any = any

/** What an app registers itself, the routes that show it, and how its responses prove that it is used. */
interface Case {
  readonly name: string
  /** As the info line names it; `undefined`: it has nothing in common with fleet. */
  readonly adopted?: string
  /** In a scope it is of no concern to fleet. */
  readonly adoptedInScope?: boolean
  register(app: FastifyInstance): Promise<unknown> | unknown
  check(app: FastifyInstance, base: string): Promise<void>
  /** It exists once per app. */
  readonly rootOnly?: true
}

const secret = 'a-secret-of-the-app-with-32-bytes!!'
class Teapot extends Error {}

const cases: readonly Case[] = [
  {
    name: '@fastify/cookie',
    adopted: '@fastify/cookie',
    async register(app) {
      await app.register(cookie, { secret })
      app.get('/cookie', (request, reply) => {
        const { value, valid } = request.unsignCookie(request.cookies.mine ?? '')
        return reply.setCookie('mine', 'x', { signed: true, path: '/' }).send({ value, valid })
      })
    },
    async check(app, base) {
      const first = await app.inject(`${base}/cookie`)
      const cookies = { mine: first.cookies.find(({ name }) => name === 'mine')?.value ?? '' }
      const second = await app.inject({ url: `${base}/cookie`, cookies })
      assert.deepEqual(second.json(), { value: 'x', valid: true })
      assert.equal(second.cookies.length, 1)
    },
  },
  {
    name: '@fastify/cors',
    adopted: '@fastify/cors',
    async register(app) {
      await app.register(cors, { origin: 'https://shop.example' })
      app.get('/cors', async () => 'ok')
    },
    async check(app, base) {
      const headers = { origin: 'https://shop.example', 'access-control-request-method': 'GET' }
      const preflight = await app.inject({ method: 'OPTIONS', url: `${base}/cors`, headers })
      assert.equal(preflight.statusCode, 204)
      assert.equal(preflight.headers['access-control-allow-origin'], 'https://shop.example')
      const response = await app.inject({ url: `${base}/cors`, headers })
      assert.equal(response.headers['access-control-allow-origin'], 'https://shop.example')
    },
  },
  {
    name: '@fastify/helmet',
    adopted: '@fastify/helmet',
    adoptedInScope: true,
    async register(app) {
      await app.register(helmet, {
        contentSecurityPolicy: { directives: { defaultSrc: ["'none'"] } },
        frameguard: false,
      })
      app.get('/helmet', async () => 'ok')
      app.get('/helmet-off', { helmet: false }, async () => 'ok')
    },
    async check(app, base) {
      const { headers } = await app.inject(`${base}/helmet`)
      assert.match(String(headers['content-security-policy']), /^default-src 'none'/)
      assert.equal(headers['x-frame-options'], undefined, 'a header that the app disabled')
      assert.equal((await app.inject(`${base}/helmet-off`)).headers['content-security-policy'], undefined)
    },
  },
  {
    name: '@fastify/jwt with its own authenticate',
    adopted: 'request.user, app.authenticate',
    async register(app) {
      await app.register(jwt, { secret })
      ;(app as Any).decorate('authenticate', async (request: Any) => {
        await request.jwtVerify()
      })
      app.get('/token', async () => (app as Any).jwt.sign({ name: 'ada' }))
      app.get('/me', { onRequest: (app as Any).authenticate }, async (request) => (request as Any).user.name)
    },
    async check(app, base) {
      const token = (await app.inject(`${base}/token`)).body
      const headers = { authorization: `Bearer ${token}` }
      assert.equal((await app.inject({ url: `${base}/me`, headers })).body, 'ada')
      const { code } = (await app.inject(`${base}/me`)).json()
      assert.equal(code, 'FST_JWT_NO_AUTHORIZATION_IN_HEADER')
    },
  },
  {
    name: '@fastify/session',
    adopted: 'request.session',
    async register(app) {
      await app.register(cookie)
      await app.register(session, { secret, cookie: { secure: false }, saveUninitialized: false })
      app.get('/visits', async (request) => {
        const { session } = request as Any
        session.visits = (session.visits ?? 0) + 1
        return String(session.visits)
      })
    },
    async check(app, base) {
      let cookies: Record<string, string> = {}
      for (const visits of ['1', '2', '3']) {
        const response = await app.inject({ url: `${base}/visits`, cookies })
        assert.equal(response.body, visits)
        const sent = response.cookies.filter(({ name }) => name === 'sessionId')
        assert.ok(sent.length <= 1, 'one plugin sets the cookie')
        cookies = { sessionId: sent[0]?.value ?? (cookies.sessionId as string) }
      }
    },
  },
  {
    name: '@fastify/rate-limit',
    adopted: '@fastify/rate-limit',
    async register(app) {
      await app.register(rateLimit, { max: 100, global: false })
      app.get('/limited', { config: { rateLimit: { max: 2, timeWindow: 60_000 } } }, async () => 'ok')
    },
    async check(app, base) {
      const statuses: number[] = []
      for (let i = 0; i < 3; i++) {
        const { statusCode, headers } = await app.inject(`${base}/limited`)
        statuses.push(statusCode)
        assert.equal(headers['x-ratelimit-limit'], '2')
        assert.equal(headers['ratelimit-limit'], undefined, "fleet's limit does not count too")
      }
      assert.deepEqual(statuses, [200, 200, 429])
    },
  },
  {
    name: '@fastify/websocket',
    async register(app) {
      await app.register(websocket)
      app.get('/ws', { websocket: true }, (socket: Any) =>
        socket.on('message', (text: unknown) => socket.send(`echo ${text}`)),
      )
    },
    async check(app, base) {
      await app.ready()
      const socket = await app.injectWS(`${base}/ws`)
      const echo = new Promise((resolve) => socket.once('message', (text) => resolve(String(text))))
      socket.send('hi')
      assert.equal(await echo, 'echo hi')
      socket.terminate()
    },
    rootOnly: true,
  },
  {
    name: '@fastify/under-pressure',
    async register(app) {
      await app.register(underPressure, { maxEventLoopDelay: 10_000, exposeStatusRoute: '/status' })
    },
    async check(app, base) {
      assert.equal((await app.inject(`${base}/status`)).json().status, 'ok')
    },
  },
  {
    name: '@fastify/swagger',
    async register(app) {
      await app.register(swagger, { openapi: { info: { title: 'shop', version: '1' } } })
      app.get('/books', { schema: { summary: 'All books' } }, async () => [])
      app.get('/openapi', async () => (app as Any).swagger())
    },
    async check(app, base) {
      const { paths } = (await app.inject(`${base}/openapi`)).json()
      assert.equal(paths[`${base}/books`].get.summary, 'All books')
    },
  },
  {
    name: '@fastify/otel',
    async register(app) {
      await app.register(new FastifyOtelInstrumentation().plugin() as Any)
      app.get('/traced', async (request) => typeof (request as Any).opentelemetry)
    },
    async check(app, base) {
      assert.equal((await app.inject(`${base}/traced`)).body, 'function')
    },
  },
  {
    name: 'setErrorHandler',
    adopted: 'error handler',
    register(app) {
      app.setErrorHandler((error, _request, reply) =>
        error instanceof Teapot ? reply.code(418).send({ mine: error.message }) : reply.code(599).send({ other: true }),
      )
      app.get('/teapot', async () => {
        throw new Teapot('short and stout')
      })
      app.get('/other', async () => {
        throw new Error('other')
      })
    },
    async check(app, base) {
      const response = await app.inject(`${base}/teapot`)
      assert.equal(response.statusCode, 418)
      assert.equal(response.body, '{"mine":"short and stout"}')
      assert.equal((await app.inject(`${base}/other`)).statusCode, 599)
    },
  },
  {
    name: 'routes at the paths of probes and metrics',
    adopted: 'route GET /health, route GET /metrics, route GET /ready, route GET /live',
    register(app) {
      for (const path of ['/health', '/metrics', '/ready', '/live']) {
        app.get(path, { preHandler: async (_, reply) => void reply.header('x-mine', '1') }, async () => ({
          mine: path,
        }))
      }
    },
    async check(app, base) {
      for (const path of ['/health', '/metrics', '/ready', '/live']) {
        const response = await app.inject(base + path)
        assert.equal(response.statusCode, 200)
        assert.equal(response.body, `{"mine":"${path}"}`)
        assert.equal(response.headers['x-mine'], '1')
        const head = await app.inject({ method: 'HEAD', url: base + path })
        assert.equal(head.statusCode, 200)
        assert.equal(head.headers['x-mine'], '1')
      }
      assert.equal((await app.inject('/alive')).statusCode, 200, 'other routes of fleet stay')
    },
  },
  {
    name: 'an own app.redis',
    adopted: 'app.redis',
    async register(app) {
      app.decorate('redis' as Any, { mine: true } as Any)
      app.get('/redis', async () => (app as Any).redis)
    },
    async check(app, base) {
      assert.deepEqual((await app.inject(`${base}/redis`)).json(), { mine: true })
    },
  },
]

const warnings: Error[] = []
process.on('warning', (warning) => warnings.push(warning))
const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

interface Created {
  readonly app: FastifyInstance
  readonly lines: string[]
}

function create(): Created {
  const lines: string[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line).msg) }
  const app = Fastify({ logger: { level: 'info', stream } })
  apps.push(app)
  return { app, lines }
}

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
      assert.deepEqual(
        warnings.splice(0).map(({ message }) => message),
        [],
      )
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
      assert.deepEqual(
        warnings.splice(0).map(({ message }) => message),
        [],
      )
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
      assert.deepEqual(
        warnings.splice(0).map(({ message }) => message),
        [],
      )
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
  const app = Fastify({ genReqId: () => 'mine', logger: false })
  apps.push(app)
  await app.register(fleet, {})
  app.get('/', async ({ id }) => id)
  assert.equal((await app.inject('/')).body, 'mine')

  const byHeader = Fastify({ requestIdHeader: 'x-mine' })
  apps.push(byHeader)
  await byHeader.register(fleet, {})
  byHeader.get('/', async ({ id }) => id)
  assert.equal((await byHeader.inject({ url: '/', headers: { 'x-mine': 'abc' } })).body, 'abc')
})

test('docs/compatibility.md has a row for each case', () => {
  const page = readFileSync(new URL('../../docs/compatibility.md', import.meta.url), 'utf8')
  const documented = [...page.matchAll(/^\| (.*?) \| (.*) \|$/gm)]
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
      let cookies: Record<string, string> = {}
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
