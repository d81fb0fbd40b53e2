import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'
import { port, routes } from './shop.js'

const app = Fastify(serverOptions())
await app.register(fleet, { name: 'shop', session: { cookie: { secure: false } } })
routes(app)
await app.listen({ port, host: '127.0.0.1' })
