import Fastify from 'fastify'
import { headers } from '../../../src/instance/headers.ts'
import { health } from '../../../src/instance/health/index.ts'
import { identity } from '../../../src/instance/identity.ts'

// A real instance that says who it is.
const app = Fastify()
await app.register(identity)
await app.register(headers)
await app.register(health)
process.stdout.write(`listening at ${await app.listen({ port: 0, host: '127.0.0.1' })}\n`)
