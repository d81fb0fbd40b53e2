import Fastify from 'fastify'
import { hello, listening, port } from './hello.js'

const app = Fastify()
app.get('/', async () => hello)
await app.listen({ port, host: '127.0.0.1' })
listening()
