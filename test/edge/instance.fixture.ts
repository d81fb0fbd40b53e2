import Fastify from 'fastify'
import { health } from '../../src/instance/health/index.ts'
import { identity } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'

// A real instance that writes one line for each request that it has run.
const app = Fastify({ return503OnClosing: false })
await app.register(identity)
await app.register(lifecycle)
await app.register(health)
for (const path of ['/run/:id', '/api/v2/run/:id']) {
  app.all(path, async (request) => {
    const { id } = request.params as { id: string }
    process.stdout.write(`ran ${request.method} ${id}\n`)
    await new Promise((resolve) => setTimeout(resolve, 5))
    return { id, by: app.fleet.instance.id, pool: app.fleet.instance.pool }
  })
}
await app.listen({ port: Number(process.argv[2]), host: '127.0.0.1' })
process.stdout.write('listening\n')
