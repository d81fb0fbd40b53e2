import { join } from 'node:path'
import fastifyStatic from '@fastify/static'
import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'

const app = Fastify(serverOptions())
await app.register(fleet, { name: 'front' })
await app.register(fastifyStatic, { root: join(import.meta.dirname, 'public'), maxAge: '10m' })

app.get('/api/visits', async (request) => {
  request.session.visits = (request.session.visits ?? 0) + 1
  return { visits: request.session.visits, servedBy: app.fleet.instance.id }
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
