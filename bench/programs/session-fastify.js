// Argument: `tuned` saves only what has changed; without it the settings are those of the README.
import cookie from '@fastify/cookie'
import session from '@fastify/session'
import { RedisStore } from 'connect-redis'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { listening, port } from './hello.js'
import { redisUrl, routes, secret } from './session.js'

const app = Fastify()
const store = new RedisStore({ client: new Redis(redisUrl, { enableAutoPipelining: true }) })
const tuned = { rolling: false, saveUninitialized: false }
await app.register(cookie)
await app.register(session, {
  secret,
  store,
  cookie: { secure: false, maxAge: 86_400_000 },
  ...(process.argv[2] === 'tuned' && tuned),
})
routes(app)
await app.listen({ port, host: '127.0.0.1' })
listening()
