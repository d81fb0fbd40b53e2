import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'

const app = Fastify(serverOptions())
await app.register(fleet, { name: 'shop', jwt: false })

app.get('/', async (request) => {
  request.session.visits = (request.session.visits ?? 0) + 1
  return { visits: request.session.visits, servedBy: app.fleet.instance.id }
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
