// Argument: `tracked` reads from memory what nobody has changed.
import Fastify from 'fastify'
import { session } from 'fastify-fleet/session'
import { listening, port } from './hello.js'
import { routes } from './session.js'

const app = Fastify()
await app.register(session, { track: process.argv[2] === 'tracked', cookie: { secure: false } })
routes(app)
await app.listen({ port, host: '127.0.0.1' })
listening()
