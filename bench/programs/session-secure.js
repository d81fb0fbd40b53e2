// The session is in the cookie itself, encrypted; no Redis.
import { createHash } from 'node:crypto'
import session from '@fastify/secure-session'
import Fastify from 'fastify'
import { listening, port } from './hello.js'
import { schema, secret, user } from './session.js'

const app = Fastify()
await app.register(session, { key: createHash('sha256').update(secret).digest(), cookie: { path: '/' } })
app.post('/login', async ({ session }) => {
  for (const [name, value] of Object.entries(user)) session.set(name, value)
  return {}
})
app.get('/me', { schema }, async ({ session }) => ({ name: session.get('name') }))
await app.listen({ port, host: '127.0.0.1' })
listening()
