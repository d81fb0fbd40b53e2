import Fastify from 'fastify'
import type { Redis } from 'ioredis'
import { idempotency } from '../../../src/state/idempotency/index.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { patient, patientApp } from '../redis/patience.ts'

/** The handler counts its calls in Redis. The first call never responds. */
const app = Fastify(patientApp)
await app.register(redis, patient)
await app.register(idempotency, { lockMs: 5_000 })
app.post('/orders', { config: { idempotency: true } }, async () => {
  const calls = await (app.redis as Redis).incr('calls')
  if (calls === 1) await new Promise(() => undefined)
  return { order: calls }
})
await app.listen({ host: '127.0.0.1', port: 0 })
process.send?.(app.listeningOrigin)
