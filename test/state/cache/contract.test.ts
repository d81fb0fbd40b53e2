import { after, before } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { RedisStore, type SharedStore } from '../../../src/state/cache/shared.ts'
import { startRedis } from '../../helpers/redis.ts'
import { cacheContract } from './contract.ts'

let client: Redis
before(async () => {
  client = new Redis((await startRedis()).url, { enableAutoPipelining: true })
})
after(() => client.disconnect())

const inRedis = async (): Promise<SharedStore> => new RedisStore(client, (kind, id) => `test:${kind}:{${id}}`)

/** A store in which every call goes through `before`, which may wait or throw. */
function troubled(store: SharedStore, trouble: (call: number) => Promise<void>): SharedStore {
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
cacheContract('redis, and no memory over it', inRedis, { maxItems: 0 })
cacheContract('redis that is away', async () => troubled(await inRedis(), async () => fail()))
cacheContract('redis that fails every third call', async () =>
  troubled(await inRedis(), async (call) => void (call % 3 === 1 && fail())),
)
cacheContract('redis that answers late', async () => troubled(await inRedis(), async () => void (await sleep(15))))
