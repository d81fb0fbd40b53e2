import Fastify from 'fastify'
import identity from '../../../src/instance/identity.ts'
import locks from '../../../src/state/locks/index.ts'
import redis from '../../../src/state/redis/index.ts'
import { patient, patientApp } from '../redis/patience.ts'

// Holds a lock, or leads, until it is killed. The test sets FLEET_NAME, REDIS_URL, TTL, WHAT and CLOCK, the error of this
// process's clock, ms; a message changes the error.
let wrongBy = Number(process.env.CLOCK ?? 0)
const now = Date.now
Date.now = () => now() + wrongBy
process.on('message', (ms) => {
  wrongBy = Number(ms)
  console.log(`moved ${ms}`)
})
process.channel?.unref()

const app = Fastify({ ...patientApp, logger: false })
await app.register(identity)
await app.register(redis, patient)
await app.register(locks, { ttlMs: Number(process.env.TTL) })
await app.listen({ host: '127.0.0.1', port: 0 })
const hold = (signal: AbortSignal): Promise<void> => {
  signal.addEventListener('abort', () => console.log('lost'))
  return new Promise(() => {})
}
if (process.env.WHAT === 'leader')
  app.fleet.leader('job', (signal) => {
    console.log('leading')
    return hold(signal)
  })
else
  await app.fleet.lock(
    'shared',
    (token, signal) => {
      console.log(`held ${token}`)
      return hold(signal)
    },
    { waitMs: 600_000 },
  )
