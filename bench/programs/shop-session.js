// @fastify/session with the settings of its README, over connect-redis.
import cookie from '@fastify/cookie'
import session from '@fastify/session'
import { RedisStore } from 'connect-redis'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { redisUrl, routes, secret } from './shop.js'

export async function create() {
  const app = Fastify()
  const redis = new Redis(redisUrl)
  app.addHook('onClose', () => redis.quit())
  await app.register(cookie)
  await app.register(session, { secret, store: new RedisStore({ client: redis }), cookie: { secure: false } })
  routes(app)
  return app
}
