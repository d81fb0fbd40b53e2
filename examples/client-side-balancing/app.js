import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'

const app = Fastify(serverOptions())
await app.register(fleet, { name: 'internal' })
app.get('/price/:id', async (request) => ({ id: request.params.id, cents: 350, by: app.fleet.instance.id }))
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
