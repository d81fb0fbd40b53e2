import Fastify from 'fastify'
import { listening, port } from './hello.js'
import { schema, user } from './session.js'

const app = Fastify()
app.post('/login', async (_request, reply) => reply.header('set-cookie', 'sid=none; Path=/').send({}))
app.get('/me', { schema }, async () => ({ name: user.name }))
await app.listen({ port, host: '127.0.0.1' })
listening()
