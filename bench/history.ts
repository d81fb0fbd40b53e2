// What the dashboard's history costs: `node bench/history.ts`. It needs Redis, and is no scenario of `npm run bench`, because
// no load generator is involved. docs/reference/dashboard.md has the figures.
import { Redis } from 'ioredis'
import { type RedisServer, startRedis } from '../src/cli/up/redis.ts'
import { bucketCount } from '../src/instance/metrics/latency-scale.ts'
import { ResponseCounters } from '../src/state/history/counters.ts'
import { pointsOf, routesOf } from '../src/state/history/points.ts'
import { RedisHistoryStore } from '../src/state/history/redis-store.ts'
import { type Counts, maxRoutes, minuteMs, routesMs, startOf, stepMs } from '../src/state/history/store.ts'
import { keysOf } from '../src/state/redis/index.ts'
import { cpuTime } from './processes.ts'

const back = { kind: 'ready', text: 'back', instance: 'a' } as const
const print = (what: string, value: number, unit: string): void =>
  console.log(`${what.padEnd(64)} ${value.toLocaleString('en', { maximumFractionDigits: 2 })} ${unit}`)

/** Counts of a busy instance whose response times are in `used` buckets. */
const countsOf = (used: number): Counts =>
  new Map([
    ...Object.entries({ n: 1, r: 10_000, c: 100, s: 10, x: 5, u: 400, k: 150_000 }),
    ...Array.from({ length: used }, (_, i): [string, number] => [String(i), 100 + i]),
  ])
const routesWith = (count: number, used: number): Map<string, Counts> =>
  new Map(Array.from({ length: count }, (_, i) => [`GET /api/v1/resources/${i}/:id`, countsOf(used)]))

function observe(): void {
  const counters = new ResponseCounters()
  const requests = Array.from({ length: 50 }, (_, i) => ({
    method: 'GET',
    routeOptions: { url: `/api/v1/resources/${i}/:id`, config: {} },
  }))
  const run = (times: number): number => {
    const since = process.cpuUsage()
    for (let i = 0; i < times; i++) counters.observe(requests[i % 50] as (typeof requests)[0], 200, (i % 97) / 3)
    const { user, system } = process.cpuUsage(since)
    return ((user + system) * 1_000) / times
  }
  run(1_000_000)
  print('instance, CPU per request', run(5_000_000), 'ns')
}

async function writes(store: RedisHistoryStore, redis: RedisServer, routes: number): Promise<void> {
  const now = await store.time()
  const start = startOf(now, minuteMs)
  const each = { start, counts: countsOf(30), routes: routesWith(routes, 12), process: 'a 1', back }
  for (let i = 0; i < 50; i++) await store.add(each)
  const before = { own: process.cpuUsage(), redis: cpuTime([redis.pid]) }
  const times = 500
  for (let i = 0; i < times; i++) await store.add(each)
  const { user, system } = process.cpuUsage(before.own)
  print(`instance, CPU per write (every 10 s), ${routes} routes`, (user + system) / times, 'µs')
  print(`Redis, CPU per write, ${routes} routes`, (cpuTime([redis.pid]) - before.redis) / times, 'µs')
}

/** A day of a fleet, and the most that it may need: every bucket used, in every step, with the largest number of routes. */
async function memory(client: Redis, name: string, used: number, routes: number): Promise<RedisHistoryStore> {
  const store = new RedisHistoryStore(client, keysOf(name))
  const bytes = async (): Promise<number> => Number(/^used_memory:(\d+)/m.exec(await client.info('memory'))?.[1])
  const now = await store.time()
  const end = startOf(now, minuteMs)
  const add = (start: number, names: number): Promise<number> =>
    store.add({ start, counts: countsOf(used), routes: routesWith(names, 20), process: 'a 1', back })
  const before = await bytes()
  for (let at = end - 86_400_000; at < end - 3_600_000; at += minuteMs) await add(at, 0)
  // The steps of older minutes were only needed to write the minutes.
  const old = await client.keys(`${name}:history-step-*`)
  for (const key of old) await client.del(key)
  for (let at = end - 3_600_000; at < end; at += stepMs)
    await add(at, at >= end - 900_000 && at % routesMs === 0 ? routes : 0)
  for (let i = 0; i < 2_100; i++)
    await store.record({
      kind: 'check-failed',
      text: `${i}: database: no reply within 500 ms`,
      instance: `app-${i}`,
      version: '1.2.3',
      pool: 'default',
    })
  print(
    `Redis, memory of a day, ${used} of ${bucketCount} buckets, ${routes} routes`,
    ((await bytes()) - before) / 2 ** 20,
    'MiB',
  )
  return store
}

const redis = await startRedis({ appendonly: false, password: null })
const client = new Redis(redis.url)
try {
  observe()
  for (const routes of [0, 20, maxRoutes])
    await writes(new RedisHistoryStore(client, keysOf(`w${routes}`)), redis, routes)
  await memory(client, 'usual', 30, 20)
  const store = await memory(client, 'full', bucketCount, maxRoutes)
  const now = await store.time()
  for (const range of ['15m', '1h', '24h'] as const) {
    const since = process.cpuUsage()
    const { points } = await pointsOf(store, now, range, 0)
    const { user, system } = process.cpuUsage(since)
    print(`instance, CPU of a chart of ${range}, ${points.length} points`, (user + system) / 1_000, 'ms')
  }
  const since = process.cpuUsage()
  const { routes } = await routesOf(store, now)
  const { user, system } = process.cpuUsage(since)
  print(`instance, CPU of a list of ${routes.length} routes`, (user + system) / 1_000, 'ms')
} finally {
  client.disconnect()
  await redis.stop()
}
