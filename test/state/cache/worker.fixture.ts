import Fastify from 'fastify'
import type { Redis } from 'ioredis'
import { cache } from '../../../src/state/cache/index.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { patient, patientApp } from '../redis/patience.ts'

/** A command of the parent: concurrent callers of one cold key. The loader counts its calls in Redis. */
export interface Order {
  key: string
  callers: number
  /** Duration of the load, ms. @default never ends */
  loadMs?: number
}

const app = Fastify(patientApp)
await app.register(redis, patient)
await app.register(cache, { hardTimeoutMs: 30_000, leaseMs: Number(process.env.LEASE_MS) })
await app.ready()
process.send?.('ready')

process.on('message', async ({ key, callers, loadMs }: Order) => {
  const load = async () => {
    const calls = await (app.redis as Redis).incr(`loads of ${key}`)
    await new Promise((resolve) => loadMs !== undefined && setTimeout(resolve, loadMs))
    return `load ${calls}`
  }
  const values = await Promise.all(Array.from({ length: callers }, () => app.cache.getOrSet(key, 60_000, load)))
  process.send?.({ key, callers: values.length, values: [...new Set(values)] })
})
