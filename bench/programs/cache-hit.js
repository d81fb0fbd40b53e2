// Argument: a cache. Prints µs per hit of a value in memory, and ends.
import { stdout } from 'node:process'

const value = { id: 7, name: 'Ann Example', roles: ['admin', 'editor'], address: { city: 'Lyon', street: 'Rue X' } }
const keys = Array.from({ length: 1000 }, (_, i) => `user:${i}`)
const hour = 3_600_000
const load = async () => value

const caches = {
  async 'fastify-fleet'() {
    const { default: Fastify } = await import('fastify')
    const { cache } = await import('fastify-fleet/cache')
    const app = Fastify()
    await app.register(cache)
    return (key) => app.cache.getOrSet(key, hour, load)
  },
  async Map() {
    const map = new Map(keys.map((key) => [key, value]))
    return async (key) => map.get(key)
  },
  async 'async-cache-dedupe'() {
    const { createCache } = await import('async-cache-dedupe')
    const cache = createCache({ ttl: 3600, storage: { type: 'memory' } })
    cache.define('user', load)
    return (key) => cache.user(key)
  },
  async bentocache() {
    const { BentoCache, bentostore } = await import('bentocache')
    const { memoryDriver } = await import('bentocache/drivers/memory')
    const store = bentostore().useL1Layer(memoryDriver({ maxItems: 10_000 }))
    const cache = new BentoCache({ default: 'memory', stores: { memory: store } })
    return (key) => cache.getOrSet({ key, ttl: '1h', factory: load })
  },
  async 'bentocache, unserialised'() {
    const { BentoCache, bentostore } = await import('bentocache')
    const { memoryDriver } = await import('bentocache/drivers/memory')
    const store = bentostore().useL1Layer(memoryDriver({ maxItems: 10_000, serialize: false }))
    const cache = new BentoCache({ default: 'memory', stores: { memory: store } })
    return (key) => cache.getOrSet({ key, ttl: '1h', factory: load })
  },
  async 'cache-manager'() {
    const { createCache } = await import('cache-manager')
    const cache = createCache({ ttl: hour })
    return (key) => cache.wrap(key, load)
  },
}

const get = await caches[process.argv[2]]()
for (const key of keys) await get(key)
const hits = async (count) => {
  const { user, system } = process.cpuUsage()
  for (let i = 0; i < count; i++) await get(keys[i % 1000])
  const end = process.cpuUsage()
  return (end.user + end.system - user - system) / count
}
await hits(100_000)
stdout.write(`${JSON.stringify({ hit: await hits(500_000) })}\n`)
process.exit()
