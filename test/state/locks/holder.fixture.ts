import Fastify from 'fastify'
import identity from '../../../src/instance/identity.ts'
import locks from '../../../src/state/locks/index.ts'
import redis from '../../../src/state/redis.ts'

// Holds a lock, or leads, until it is killed: FLEET_NAME, REDIS_URL, TTL and WHAT come from the test.
const app = Fastify({ logger: false })
await app.register(identity)
await app.register(redis)
await app.register(locks, { ttl: Number(process.env.TTL) })
await app.listen({ host: '127.0.0.1', port: 0 })
if (process.env.WHAT === 'leader') app.fleet.leader('job', () => console.log('leading'))
else
  await app.fleet.lock('shared', (token) => {
    console.log(`held ${token}`)
    return new Promise(() => {})
  })
