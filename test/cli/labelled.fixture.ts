import Fastify from 'fastify'
import { health } from '../../src/instance/health/index.ts'
import { identity } from '../../src/instance/identity.ts'
import { redis } from '../../src/state/redis/index.ts'
import { registry } from '../../src/state/registry/index.ts'

// A real instance that announces its pool in the registry and responds with its id.
const app = Fastify({ return503OnClosing: false })
await app.register(identity)
await app.register(redis)
await app.register(registry)
await app.register(health)
app.get('/*', async () => ({ id: app.fleet.instance.id }))
await app.listen({ port: 0, host: '127.0.0.1' })
process.stdout.write('listening\n')
