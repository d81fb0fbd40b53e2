// An app with most of the toolkit, under strict compiler options.
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import fleet, {
  authentication,
  type FleetOptions,
  fleet as named,
  perUser,
  serverOptions,
  type TokenClaims,
} from 'fastify-fleet'
import { Balancer } from 'fastify-fleet/balancer'
import type { DatabaseClient } from 'fastify-fleet/database'
import { health } from 'fastify-fleet/health'
import { createProxy } from 'fastify-fleet/http-proxy'
import { type ProxyPluginOptions, proxy, replyFrom } from 'fastify-fleet/proxy'
import type { TcpProxyOptions } from 'fastify-fleet/tcp-proxy'

declare const client: DatabaseClient & { book: { count(): Promise<number> } }

declare module 'fastify' {
  interface Session {
    visits?: number
    user?: { id: string }
  }
  interface FleetTypes {
    database: typeof client
  }
}

const options: FleetOptions = { name: 'shop', rateLimit: { max: 10 }, session: { ttlMs: 60_000 }, database: { client } }

export async function build(): Promise<FastifyInstance> {
  const app = Fastify({ ...serverOptions(), logger: true })
  await app.register(fleet, options)

  const forwarded: ProxyPluginOptions = { targets: ['http://127.0.0.1:4001'], websocket: true, policy: 'random' }
  app.register(proxy, { ...forwarded, prefix: '/api' })
  app.register(proxy, {
    prefix: '/v2/:id',
    targets: [{ url: 'unix+http://%2Frun%2Fapp.sock', http2: true }],
    preHandler: async (request, reply) => void reply.header('x-method', request.method),
    rewriteRequestHeaders: (request, headers) => ({ ...headers, 'x-ip': request.ip }),
    rewriteHeaders: (headers, request) => ({ ...headers, 'x-url': request.url }),
    onResponse: (_request, reply, { statusCode, stream }) => reply.code(statusCode).send(stream),
    onError: (reply, { error }) => reply.code(error.statusCode).send(error.code),
  })
  // @ts-expect-error an unknown option
  app.register(proxy, { prefix: '/v3', targets: [], rewritePrefx: '/' })
  app.register(replyFrom, { getUpstream: (request) => `http://${request.hostname}:4001` })
  app.get('/from', (_request, reply) => reply.from('/x', { method: 'POST', body: { a: 1 } }))

  app.get('/', { config: { rateLimit: perUser(10), cache: { ttlMs: 1000 } } }, async ({ session }) => {
    session.visits = (session.visits ?? 0) + 1
    const id: string | undefined = session.user?.id
    // @ts-expect-error a typo is an error
    session.visit = 1
    const price = await app.cache.getOrSet('price', 1000, async () => ({ cents: 3, since: new Date(0) }))
    const cents: number = price.cents
    const five: number = await app.fleet.lock('x', async (_token, signal) => (signal.aborted ? 0 : 5))
    return { id, cents, five, books: await app.database.book.count() }
  })
  app.get('/me', { preHandler: app.authenticate }, async ({ user }) => {
    const subject: string = user.sub
    const claims: TokenClaims = user
    const { role }: TokenClaims<{ role: 'admin' | 'guest' }> = await app.tokens.verify<{ role: 'admin' | 'guest' }>('')
    const known: 'admin' | 'guest' = role
    return { subject, exp: claims.exp, known }
  })
  app.post('/login', { config: { rateLimit: authentication(5, 1000), idempotency: { required: true } } }, async () => {
    const claims: { role: string } = { role: 'admin' }
    return app.tokens.issue('ann', claims)
  })
  const priceOf = app.cache.wrap(async (id: number, currency: string) => ({ id, currency }), {
    ttlMs: 5,
    name: 'price',
  })
  const { id, currency }: { id: number; currency: string } = await priceOf(1, 'EUR')
  app.log.info({ id, currency })

  // @ts-expect-error an unknown option is an error
  await app.register(fleet, { sesion: {} })
  // @ts-expect-error a value of another type is an error
  await app.register(fleet, { rateLimit: { max: 'ten' } })
  return app
}

export async function others(): Promise<void> {
  await Fastify({ http2: true }).register(named)
  await Fastify({ https: { key: '', cert: '' } }).register(health)
  const balancer = new Balancer(['http://a:1'], { policy: 'two-choices' })
  const { statusCode, body } = await balancer.request('/x', { method: 'POST', body: 'x' })
  const response = await fetch('http://x', { dispatcher: balancer.dispatcher } as RequestInit)
  createProxy({ targets: ['http://a:1'], policy: 'sticky-cookie' })
  return [statusCode, await body.json(), response.status].forEach(() => {})
}

export const own: FastifyPluginAsync = async (app) => {
  app.health.add('db', async () => {})
  app.fleet.onState((state) => app.log.info(state satisfies string))
}

export const tcp: Partial<TcpProxyOptions> = {}
