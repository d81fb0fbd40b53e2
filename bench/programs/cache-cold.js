// Arguments: a cache, and a key. One of several processes: when its parent says so in Redis, 250 callers at once
// want one key that nobody has. The loader counts its calls in Redis.
import { stdout } from 'node:process'
import { Redis } from 'ioredis'
import { redisUrl } from './session.js'

const [cache, key] = process.argv.slice(2)
const redis = new Redis(redisUrl)
const hour = 3_600_000
const load = async () => {
  await redis.incr(`loads of ${key}`)
  await new Promise((resolve) => setTimeout(resolve, 100))
  return { id: 7 }
}

const caches = {
  async 'fastify-fleet'() {
    const { default: Fastify } = await import('fastify')
    const { cache } = await import('fastify-fleet/cache')
    const app = Fastify()
    await app.register(cache)
    await app.ready()
    return () => app.cache.getOrSet(key, hour, load)
  },
  async 'async-cache-dedupe'() {
    const { createCache } = await import('async-cache-dedupe')
    const cache = createCache({ ttl: 3600, storage: { type: 'redis', options: { client: redis } } })
    cache.define('one', load)
    return () => cache.one(key)
  },
  async bentocache() {
    const { BentoCache, bentostore } = await import('bentocache')
    const { memoryDriver } = await import('bentocache/drivers/memory')
    const { redisDriver } = await import('bentocache/drivers/redis')
    const store = bentostore()
      .useL1Layer(memoryDriver({ maxItems: 10_000 }))
      .useL2Layer(redisDriver({ connection: redis }))
    const cache = new BentoCache({ default: 'two', stores: { two: store } })
    return () => cache.getOrSet({ key, ttl: '1h', factory: load, timeout: 0 })
  },
}

const get = await caches[cache]()
stdout.write('ready\n')
await redis.duplicate().blpop(`start ${key}`, 0)
await Promise.all(Array.from({ length: 250 }, get))
// Callers have their answer before Redis has the value; who dies in between leaves it to the others to load again.
setTimeout(() => process.exit(), 1000)
