import Fastify from 'fastify'
import identity from '../../../src/instance/identity.ts'
import redis from '../../../src/state/redis/index.ts'
import registry from '../../../src/state/registry/index.ts'
import { patient, patientApp } from '../redis/patience.ts'

// One instance of a fleet. The test sets FLEET_NAME, INSTANCE_ID, REDIS_URL and LEASE_MS.
const app = Fastify({ ...patientApp, logger: true })
await app.register(identity)
await app.register(redis, patient)
await app.register(registry, { leaseMs: Number(process.env.LEASE_MS) })
await app.listen({ host: '127.0.0.1', port: 0 })
console.log(`listening ${app.fleet.instance.port}`)
