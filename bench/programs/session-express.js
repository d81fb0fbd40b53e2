import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import { Redis } from 'ioredis'
import { listening, port } from './hello.js'
import { redisUrl, secret, user } from './session.js'

const app = express()
const store = new RedisStore({ client: new Redis(redisUrl, { enableAutoPipelining: true }) })
app.use(session({ secret, store, resave: false, saveUninitialized: false, cookie: { maxAge: 86_400_000 } }))
app.post('/login', (request, response) => {
  Object.assign(request.session, user)
  response.json({})
})
app.get('/me', (request, response) => response.json({ name: request.session.name }))
app.listen(port, '127.0.0.1', listening)
