// The cache plugin. Concepts, in reading order:
//   TieredCache (cache.ts)           `app.cache`
//   TieredStore (tiered-store.ts)    memory (memory-store.ts) over Redis (store.ts, redis-store.ts)
//   SingleFlight (single-flight.ts)  one loader call per key: a shared promise here, a lease in Redis
//   Invalidations (invalidation.ts)  changes sent to Redis and peers, retried after an outage

import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { resolveOptions } from '../../base/options.ts'
import { fleetPlugin } from '../../instance/compat/index.ts'
import identity from '../../instance/identity.ts'
import { expose, exposeGauge } from '../../instance/metrics/expose.ts'
import broadcast from '../broadcast/index.ts'
import redis, { redisOf } from '../redis/index.ts'
import { type Cache, TieredCache } from './cache.ts'
import type { CacheMessage } from './invalidation.ts'
import { type CacheOptions, cacheOptions } from './options.ts'
import { RedisCacheStore } from './redis-store.ts'

export type { Cache, SetOptions, WrapOptions } from './cache.ts'
export type { CacheOptions, LoadOptions } from './options.ts'
export type { Loader } from './single-flight.ts'

declare module 'fastify' {
  interface FastifyInstance {
    cache: Cache
  }
}

const channel = 'cache'

function addMetrics(app: FastifyInstance, { outcomes, singleFlight, store }: TieredCache): void {
  expose(app, 'fleet_cache_answers_total', 'Cache reads by the tier that served them', 'by', outcomes)
  expose(app, 'fleet_cache_loads_total', 'Loader calls by result', 'result', singleFlight.results)
  exposeGauge(app, 'fleet_cache_items', 'Values in the memory of this process', () => store.memory.size)
  exposeGauge(app, 'fleet_cache_bytes', 'Size of the values in memory, as JSON', () => store.memory.bytes)
}

const plugin: FastifyPluginAsync<CacheOptions> = async (app, given) => {
  await ensure(app, identity, redis, broadcast)
  const options = resolveOptions('cache', cacheOptions, given)
  app.fleet.configure('cache', options)
  const client = redisOf(app)
  app.fleet.describe('cacheStore', client ? 'redis' : 'memory')

  const cache = new TieredCache(options, {
    shared: client && new RedisCacheStore(client, app.redisKey),
    publish: (message) => app.fleet.publish(channel, message),
    warn: (details, message) => app.log.warn(details, message),
  })
  app.decorate<Cache>('cache', cache)
  addMetrics(app, cache)
  if (!client) return

  const unsubscribe = app.fleet.subscribe<CacheMessage>(channel, (message) => cache.receive(message), {
    onReconnect: () => cache.store.setConnected(true),
    onLost: () => cache.store.setConnected(false),
  })
  app.addHook('onClose', async () => {
    unsubscribe()
    cache.store.invalidations?.close()
  })
}

/** Decorates `app.cache`: memory over Redis with single-flight loads and invalidation across the fleet. */
export const cache: FastifyPluginAsync<CacheOptions> = fleetPlugin('cache', plugin)
export default cache
