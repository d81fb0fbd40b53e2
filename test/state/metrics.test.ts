import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { identity } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { metrics } from '../../src/instance/metrics/index.ts'
import { idempotency } from '../../src/state/idempotency/index.ts'
import { jwt } from '../../src/state/jwt/index.ts'
import { locks } from '../../src/state/locks/index.ts'
import { rateLimit } from '../../src/state/rate-limit/index.ts'
import { redis } from '../../src/state/redis/index.ts'
import { registry } from '../../src/state/registry/index.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { patient, patientApp } from './redis/patience.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

test('exposes the counts of the state plugins with a closed set of label values', async () => {
  const server = await startRedis()
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(identity, { name: 'counted' })
  await app.register(lifecycle, { signals: false })
  await app.register(metrics)
  await app.register(redis, { url: server.url, ...patient })
  await app.register(registry)
  await app.register(locks)
  await app.register(rateLimit)
  await app.register(jwt, { secret: 'a secret of these tests, long enough for HS256' })
  await app.register(idempotency)
  app.get('/me', { preHandler: app.authenticate }, async () => ({}))
  app.get('/limited', { config: { rateLimit: { max: 5 } } }, async () => ({}))
  app.post('/orders', { config: { idempotency: true } }, async () => ({}))
  await app.listen({ host: '127.0.0.1', port: 0 })
  const line = async (name: string): Promise<string[]> =>
    (await app.metrics.metrics()).split('\n').filter((text) => text.startsWith(name) && !text.endsWith(' 0'))

  const { accessToken } = await app.tokens.issue('ann')
  for (const authorization of [undefined, 'Bearer x', `Bearer ${accessToken}`])
    await app.inject({ url: '/me', headers: { ...(authorization && { authorization }) } })
  await app.tokens.revoke(accessToken)
  await app.inject({ url: '/me', headers: { authorization: `Bearer ${accessToken}` } })
  assert.deepEqual(await line('fleet_jwt_refused_total'), [
    'fleet_jwt_refused_total{reason="missing"} 1',
    'fleet_jwt_refused_total{reason="invalid"} 1',
    'fleet_jwt_refused_total{reason="revoked"} 1',
  ])
  assert.deepEqual(await line('fleet_jwt_revocations'), ['fleet_jwt_revocations 1'])

  const order = { method: 'POST', url: '/orders', headers: { 'idempotency-key': 'k' }, payload: {} } as const
  for (const payload of [{}, {}, { other: 1 }]) await app.inject({ ...order, payload })
  assert.deepEqual(await line('fleet_idempotency_requests_total'), [
    'fleet_idempotency_requests_total{result="first"} 1',
    'fleet_idempotency_requests_total{result="replayed"} 1',
    'fleet_idempotency_requests_total{result="other_request"} 1',
  ])

  await app.fleet.lock('a', () => app.fleet.lock('a', () => 1, { waitMs: 0 }).catch(() => {}))
  assert.deepEqual(await line('fleet_locks_total'), [
    'fleet_locks_total{result="acquired"} 1',
    'fleet_locks_total{result="busy"} 1',
  ])
  app.fleet.leader('job', () => {})
  await until(async () => (await line('fleet_leaderships')).join() === 'fleet_leaderships 1')
  await until(async () => (await line('fleet_registry_live')).join() === 'fleet_registry_live 1')

  await app.inject('/limited')
  await server.kill('SIGKILL')
  await until(() => app.redis?.status !== 'ready')
  await app.inject('/limited')
  await app.inject(order)
  assert.deepEqual(await line('fleet_rate_limit_answers_total'), [
    'fleet_rate_limit_answers_total{by="redis"} 1',
    'fleet_rate_limit_answers_total{by="share"} 1',
  ])
  assert.equal(
    (await line('fleet_idempotency_requests_total')).at(-1),
    'fleet_idempotency_requests_total{result="unavailable"} 1',
  )
  await until(async () => (await line('fleet_registry_live')).length === 0)
})
