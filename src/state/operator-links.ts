import type { FastifyPluginAsync } from 'fastify'
import { fleetPlugin } from '../instance/compat/index.ts'
import { guarded, redisOf } from './redis/index.ts'

const plugin: FastifyPluginAsync = async (app) => {
  const redis = redisOf(app)
  if (!redis || !app.hasDecorator('operators')) return
  app.operators.signIn?.consumeWith(async ({ id, expiresAt }) => {
    const leftMs = Math.max(1, expiresAt - Date.now())
    return (await guarded(redis.set(app.redisKey('operator-link', id), '1', 'PX', leftMs, 'NX'))) === 'OK'
  })
}

/** Makes one-time links to the dashboard work once in the whole fleet, instead of once per instance. */
export const operatorLinks: FastifyPluginAsync = fleetPlugin('operatorLinks', plugin)
