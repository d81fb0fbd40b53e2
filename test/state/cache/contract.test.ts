import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { RedisCacheStore } from '../../../src/state/cache/redis-store.ts'
import type { SharedCacheStore } from '../../../src/state/cache/store.ts'
import { ownRedis, testKey } from '../own-redis.ts'
import { CachePeers, cacheContract, code } from './contract.ts'

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

test('catches the error of a loader that is called after hardTimeoutMs, because Redis was slow', async () => {
  const cache = new CachePeers().add(troubled(await inRedis(), async () => void (await sleep(50))))
  let calls = 0
  const load = async ({ signal }: { signal: AbortSignal }): Promise<void> => {
    calls++
    signal.throwIfAborted()
  }
  await assert.rejects(cache.getOrSet('late', 60_000, load, { hardTimeoutMs: 1 }), code('FLEET_ERR_CACHE_TIMEOUT'))
  assert.equal(calls, 1)
})
