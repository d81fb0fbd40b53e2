import Fastify from 'fastify'
import fleet from 'fastify-fleet'
import { hello, listening, port } from './hello.js'

const app = Fastify()
await app.register(fleet)
app.get('/', async () => hello)
await app.listen({ port, host: '127.0.0.1' })
listening()
