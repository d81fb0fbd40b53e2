import { setTimeout as sleep } from 'node:timers/promises'
import { RedisCacheStore } from '../../../src/state/cache/redis-store.ts'
import type { SharedCacheStore } from '../../../src/state/cache/store.ts'
import { ownRedis, testKey } from '../own-redis.ts'
import { cacheContract } from './contract.ts'

const own = ownRedis({ enableAutoPipelining: true })

const inRedis = async (): Promise<SharedCacheStore> => new RedisCacheStore(own.client, testKey)

/** A store that awaits `trouble` before every call; it may delay or throw. */
function troubled(store: SharedCacheStore, trouble: (call: number) => Promise<void>): SharedCacheStore {
  let calls = 0
  return new Proxy(store, {
    get: (target, name) => {
      const method: unknown = Reflect.get(target, name)
      if (typeof method !== 'function') return method
      return async (...args: unknown[]) => {
        await trouble(calls++)
        return await method.apply(target, args)
      }
    },
  })
}
const fail = (): never => {
  throw new Error('Connection is closed.')
}

cacheContract('memory', async () => null)
cacheContract('redis', inRedis)
cacheContract('redis without a memory tier', inRedis, { maxItems: 0 })
cacheContract('unavailable redis', async () => troubled(await inRedis(), async () => fail()))
cacheContract('redis that fails every third call', async () =>
  troubled(await inRedis(), async (call) => void (call % 3 === 1 && fail())),
)
cacheContract('slow redis', async () => troubled(await inRedis(), async () => void (await sleep(15))))
