import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { metrics } from '../../../src/instance/metrics/index.ts'
import { broadcast } from '../../../src/state/broadcast/index.ts'
import { TieredCache } from '../../../src/state/cache/cache.ts'
import { type CacheOptions, cache } from '../../../src/state/cache/index.ts'
import { TieredStore } from '../../../src/state/cache/tiered-store.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { ownRedis } from '../own-redis.ts'
import { code } from './contract.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

async function build(options: CacheOptions, withMetrics = false): Promise<FastifyInstance> {
  const app = Fastify()
  apps.push(app)
  if (withMetrics) await app.register(metrics)
  await app.register(cache, options)
  return app
}

test('works without Redis and reports the memory store', async () => {
  const app = await build({})
  assert.ok(app.hasPlugin('fleet-cache'))
  assert.equal(app.fleet.facts.cacheStore, 'memory')
  assert.equal(app.fleet.stateless, false)
  assert.equal(await app.cache.getOrSet('k', 1_000, () => 1), 1)
})

test('rejects invalid options at boot', async () => {
  await assert.rejects(build({ maxItems: -1 }), code('FLEET_ERR_OPTION_INVALID'))
  await assert.rejects(build({ ttl: 1 } as CacheOptions), code('FLEET_ERR_OPTION_UNKNOWN'))
})

test('counts reads by outcome, every label value from the start', async () => {
  const app = await build({}, true)
  const load = () => 1
  await app.cache.getOrSet('k', 1_000, load)
  await app.cache.getOrSet('k', 1_000, load)
  await app.cache.get('k')
  await app.cache.get('unknown')
  await app.cache.getOrSet('bad', 1_000, () => Promise.reject(new Error('down'))).catch(() => undefined)
  const text = await app.metrics.metrics()
  for (const line of [
    'fleet_cache_answers_total{by="memory"} 2',
    'fleet_cache_answers_total{by="redis"} 0',
    'fleet_cache_answers_total{by="loader"} 1',
    'fleet_cache_answers_total{by="stale"} 0',
    'fleet_cache_answers_total{by="nothing"} 1',
    'fleet_cache_answers_total{by="error"} 1',
    'fleet_cache_loads_total{result="ok"} 1',
    'fleet_cache_loads_total{result="failed"} 1',
    'fleet_cache_items 1',
    'fleet_cache_bytes 1',
  ])
    assert.ok(text.includes(`${line}\n`), line)
})

describe('with Redis', () => {
  const own = ownRedis()

  test('expires its memory when messages are lost and when they return, and receives them in between', async (t) => {
    const connected = t.mock.method(TieredStore.prototype, 'setConnected')
    const received = t.mock.method(TieredCache.prototype, 'receive')
    const app = Fastify()
    t.after(() => app.close())
    await app.register(redis, { client: own.client })
    await app.register(broadcast)
    const subscribe = t.mock.method(app.fleet, 'subscribe')
    await app.register(cache)
    const [name, listener, events] = subscribe.mock.calls[0]?.arguments ?? assert.fail()
    assert.equal(name, 'cache')
    connected.mock.resetCalls()
    events?.onLost?.()
    events?.onReconnect?.()
    assert.deepEqual(
      connected.mock.calls.map((call) => call.arguments),
      [[false], [true]],
    )
    const message = { kind: 'key', name: 'a', from: 'other' }
    listener(message)
    assert.deepEqual(received.mock.calls.at(-1)?.arguments, [message])
  })
})
