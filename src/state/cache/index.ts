import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { resolveOptions } from '../../base/options.ts'
import identity from '../../instance/identity.ts'
import broadcast from '../broadcast/index.ts'
import { expose, exposeGauge } from '../metrics.ts'
import redis from '../redis/index.ts'
import type { Cache } from './api.ts'
import { LayeredCache } from './cache.ts'
import type { Message } from './invalidation.ts'
import { type CacheOptions, defaults, type ResolvedCacheOptions, shapes } from './options.ts'
import { RedisStore } from './shared.ts'

export type { Cache, Loader, SetOptions, WrapOptions } from './api.ts'
export type { CacheOptions, LoadOptions } from './options.ts'

declare module 'fastify' {
  interface FastifyInstance {
    cache: Cache
  }
}

const channel = 'cache'

function addMetrics(app: FastifyInstance, { outcomes, flights, layers }: LayeredCache): void {
  expose(app, 'fleet_cache_answers_total', 'Calls of the cache by what answered them', 'by', outcomes)
  expose(app, 'fleet_cache_loads_total', 'Calls of loaders by how they ended', 'result', flights.loads)
  exposeGauge(app, 'fleet_cache_items', 'Values in the memory of this process', () => layers.local.size)
  exposeGauge(app, 'fleet_cache_bytes', 'Their size as JSON', () => layers.local.bytes)
}

const plugin: FastifyPluginAsync<CacheOptions> = async (app, given) => {
  if (!app.hasDecorator('fleet')) await app.register(identity)
  if (!app.hasDecorator('redis')) await app.register(redis)
  if (!('publish' in app.fleet)) await app.register(broadcast)
  const options = resolveOptions<ResolvedCacheOptions>('cache', shapes, defaults, given)
  app.fleet.configure('cache', options)
  app.fleet.describe('cacheStore', app.redis ? 'redis' : 'memory')

  const cache = new LayeredCache(options, {
    shared: app.redis && new RedisStore(app.redis, app.redisKey),
    publish: (message) => app.fleet.publish(channel, message),
    warn: (details, message) => app.log.warn(details, message),
  })
  app.decorate<Cache>('cache', cache)
  addMetrics(app, cache)
  if (!app.redis) return

  const unsubscribe = app.fleet.subscribe<Message>(channel, (message) => cache.receive(message), {
    onReconnect: () => cache.layers.distrust(true),
    onLost: () => cache.layers.distrust(false),
  })
  app.addHook('onClose', async () => {
    unsubscribe()
    cache.layers.close()
  })
}

/** Decorates `app.cache`: memory over Redis, one load per key in the whole fleet, and no value older than it may be. */
export const cache: FastifyPluginAsync<CacheOptions> = fp(plugin, { name: 'fleet-cache', fastify: '5.x' })
export default cache
