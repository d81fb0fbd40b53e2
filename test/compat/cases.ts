// Apps that have plugins of their own, and the orders in which fleet joins them.
import assert from 'node:assert/strict'
import { afterEach } from 'node:test'
import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import { FastifyOtelInstrumentation } from '@fastify/otel'
import rateLimit from '@fastify/rate-limit'
import session from '@fastify/session'
import swagger from '@fastify/swagger'
import underPressure from '@fastify/under-pressure'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'

// Its types declare `request.user` for the whole program.
const { default: jwt } = await import('@fastify/jwt' as string)

// biome-ignore lint/suspicious/noExplicitAny: the types of plugins that both declare the same members
export type Any = any

/** What an app registers itself, the routes that show it, and how its responses prove that it is used. */
export interface Case {
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

export const secret = 'a-secret-of-the-app-with-32-bytes!!'
class Teapot extends Error {}

export const cases: readonly Case[] = [
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
      app.get('/handled', { preHandler: (app as Any).rateLimit({ max: 3 }) }, async () => 'ok')
      // An option that fleet's limits do not have.
      app.get('/banned', { config: { rateLimit: { max: 1, timeWindow: 60_000, ban: 1 } } }, async () => 'ok')
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
      assert.equal((await app.inject(`${base}/handled`)).headers['x-ratelimit-limit'], '3')
      const banned: number[] = []
      for (let i = 0; i < 3; i++) banned.push((await app.inject(`${base}/banned`)).statusCode)
      assert.deepEqual(banned, [200, 429, 403])
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

/** Warnings of the process since the last call. */
const warnings: Error[] = []
export const takeWarnings = (): string[] => warnings.splice(0).map(({ message }) => message)
process.on('warning', (warning) => warnings.push(warning))
const apps: FastifyInstance[] = []
// After each test, because thousands of open apps would keep the garbage collector busy.
afterEach(() => Promise.all(apps.splice(0).map((app) => app.close())))

interface Created {
  readonly app: FastifyInstance
  readonly lines: string[]
}

export function create(options: FastifyServerOptions = {}): Created {
  const lines: string[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line).msg) }
  const app = Fastify({ logger: { level: 'info', stream }, ...options })
  apps.push(app)
  return { app, lines }
}
