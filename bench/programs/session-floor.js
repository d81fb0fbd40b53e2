// The least that a session read in Redis can cost: one pipelined GET and JSON.parse, no cookie, no signature.
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { listening, port } from './hello.js'
import { redisUrl, schema, user } from './session.js'

const redis = new Redis(redisUrl, { enableAutoPipelining: true })
const app = Fastify()
app.post('/login', async (_request, reply) => {
  await redis.set('floor', JSON.stringify({ cookie: { expires: Date.now(), originalMaxAge: 86_400_000 }, ...user }))
  return reply.header('set-cookie', 'sid=floor; Path=/').send({})
})
app.get('/me', { schema }, async () => ({ name: JSON.parse(await redis.get('floor')).name }))
await app.listen({ port, host: '127.0.0.1' })
listening()
