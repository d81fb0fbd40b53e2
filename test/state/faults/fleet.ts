import { after } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { health } from '../../../src/instance/health/index.ts'
import { identity } from '../../../src/instance/identity.ts'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { broadcast } from '../../../src/state/broadcast/index.ts'
import { cache } from '../../../src/state/cache/index.ts'
import { httpCache } from '../../../src/state/http-cache/index.ts'
import { idempotency } from '../../../src/state/idempotency/index.ts'
import { jwt } from '../../../src/state/jwt/index.ts'
import { locks } from '../../../src/state/locks/index.ts'
import { rateLimit } from '../../../src/state/rate-limit/index.ts'
import { type RedisOptions, redis } from '../../../src/state/redis/index.ts'
import { registry } from '../../../src/state/registry/index.ts'
import { session } from '../../../src/state/session/index.ts'
import { patient, patientApp } from '../redis/patience.ts'

const secret = 'a secret of these tests, long enough for HS256'
const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

/** Requests per minute and client of `/limited`. */
export const limit = 30
export const ttl = 2000

/** An instance with every plugin that stores state in Redis. `b` has the options for outages, `c` tracks sessions. */
async function start(id: 'a' | 'b' | 'c', name: string, where: RedisOptions): Promise<FastifyInstance> {
  const lenient = id === 'b'
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(identity, { id, name })
  await app.register(lifecycle, { signals: false })
  await app.register(health)
  await app.register(redis, { commandTimeoutMs: 2000, connectTimeoutMs: patient.connectTimeoutMs, ...where })
  await app.register(broadcast)
  await app.register(registry, { leaseMs: 3000, commandTimeoutMs: 4000 })
  await app.register(locks, { ttlMs: ttl, closeGraceMs: 100 })
  await app.register(rateLimit)
  await app.register(session, { secret, onOutage: lenient ? 'allow' : 'reject', track: id === 'c' })
  await app.register(jwt, { secret, onOutage: lenient ? 'allow' : 'reject' })
  await app.register(cache, { jitter: 0, errorBackoffMs: 0 })
  await app.register(httpCache)
  await app.register(idempotency, { onOutage: lenient ? 'allow' : 'reject' })

  app.get('/session', async ({ session }) => ({ user: session.userId ?? null }))
  app.get('/session/all', async ({ session }) => {
    const { cookie: _, ...data } = session.toJSON() as Record<string, unknown>
    return data
  })
  app.post<{ Body: object }>('/session', async ({ session, body }) => {
    Object.assign(session, body)
    return {}
  })
  app.delete('/session', async ({ session }) => {
    await session.destroy()
    return {}
  })
  app.get('/me', { preHandler: app.authenticate }, async ({ user }) => user)
  app.get('/limited', { config: { rateLimit: { max: limit, timeWindow: 60_000 } } }, async () => ({}))
  app.get('/page', { config: { cache: { ttlMs: 60_000 } } }, async () => ({}))
  app.post('/orders', { config: { idempotency: true } }, async () => ({}))
  await app.listen({ host: '127.0.0.1', port: 0 })
  return app
}

export type Fleet = readonly [a: FastifyInstance, b: FastifyInstance, c: FastifyInstance]

let fleets = 0
export async function startFleet(where: RedisOptions): Promise<Fleet> {
  const name = `faults${++fleets}`
  return Promise.all([start('a', name, where), start('b', name, where), start('c', name, where)])
}
