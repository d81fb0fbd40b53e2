import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { Cluster, Redis } from 'ioredis'
import { identity } from '../../../src/instance/identity.ts'
import { type CacheOptions, cache } from '../../../src/state/cache/index.ts'
import { RedisCacheStore } from '../../../src/state/cache/redis-store.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { type App, forkApp } from '../../helpers/fork-app.ts'
import { freePort } from '../../helpers/free-port.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { ownRedis } from '../own-redis.ts'
import { patient, patientApp } from '../redis/patience.ts'
import { cacheContract, gate } from './contract.ts'
import type { Order } from './worker.fixture.ts'

// A load is repeated when its process, or Redis, is suspended for two thirds of this.
const leaseMs = 5_000

const long = 60_000
const apps: FastifyInstance[] = []
let fleets = 0
after(() => Promise.all(apps.map((app) => app.close())))

/** Instances of one fleet that receive each other's messages. */
async function fleet(
  server: RedisServer,
  size: number,
  options: CacheOptions = {},
  commandTimeoutMs = 20_000,
): Promise<FastifyInstance[]> {
  const name = `fleet-${fleets++}`
  const built = await Promise.all(
    Array.from({ length: size }, async () => {
      const app = Fastify(patientApp)
      apps.push(app)
      await app.register(identity, { name })
      await app.register(redis, { url: server.url, ...patient, commandTimeoutMs })
      await app.register(cache, { jitter: 0, ...options })
      return app
    }),
  )
  await connected(built)
  return built
}

/** Waits until a message of the first instance reaches all. */
async function connected(instances: FastifyInstance[]): Promise<void> {
  const [first] = instances as [FastifyInstance]
  const reached = new Set<FastifyInstance>()
  const ends = instances.map((app) => app.fleet.subscribe('probe', () => reached.add(app)))
  await until(async () => {
    await first.fleet.publish('probe', 1)
    return reached.size === instances.length
  })
  for (const end of ends) end()
}

describe('instances that share a Redis', () => {
  const redis = ownRedis()
  let a: FastifyInstance
  let b: FastifyInstance
  before(async () => {
    ;[a, b] = (await fleet(redis.server, 2)) as [FastifyInstance, FastifyInstance]
  })

  test('report the Redis store', () => assert.equal(a.fleet.facts.cacheStore, 'redis'))

  test('see values that one of them sets, changes and deletes', async () => {
    const seen = () => Promise.all([a.cache.get('k'), b.cache.get('k')])
    await a.cache.set('k', 1, long)
    assert.deepEqual(await seen(), [1, 1])
    await b.cache.set('k', 2, long)
    await until(async () => (await seen()).every((value) => value === 2))
    await a.cache.delete('k')
    await until(async () => (await seen()).every((value) => value === undefined))
    await b.cache.set('k', 3, long, { tags: ['t'] })
    assert.deepEqual(await seen(), [3, 3])
    await a.cache.deleteByTag('t')
    await until(async () => (await seen()).every((value) => value === undefined))
  })

  test('load once among them and wake the waiting instances', async () => {
    const gated = gate('value')
    const callers = [a, b].flatMap((app) => [1, 2, 3].map(() => app.cache.getOrSet('once', long, gated.load)))
    await until(() => gated.calls > 0)
    gated.open()
    assert.deepEqual(new Set(await Promise.all(callers)), new Set(['value']))
    assert.equal(gated.calls, 1)
  })

  test('take over from an instance whose loader fails', async () => {
    const gated = gate('down')
    const failing = async () => {
      throw new Error(await gated.load())
    }
    const first = assert.rejects(a.cache.getOrSet('over', long, failing), /down/)
    await until(() => gated.calls === 1)
    const second = b.cache.getOrSet('over', long, () => 'well')
    gated.open()
    await first
    assert.equal(await second, 'well')
  })

  test('do not store a load whose key another instance deleted meanwhile', async () => {
    for (const forget of [() => b.cache.delete('late'), () => b.cache.deleteByTag('tagged')]) {
      const gated = gate('old')
      const early = a.cache.getOrSet('late', long, gated.load, { tags: ['tagged'] })
      await until(() => gated.calls === 1)
      await forget()
      gated.open()
      assert.equal(await early, 'old')
      assert.equal(await b.cache.getOrSet('late', long, () => 'new', { tags: ['tagged'] }), 'new')
      await until(async () => (await a.cache.get('late')) === 'new')
      await a.cache.delete('late')
    }
  })

  test('serve the stale value in Redis while one of them loads', async () => {
    const stale = { staleWhileRevalidateMs: long }
    await a.cache.getOrSet('swr', 30, () => 'old', stale)
    await until(async () => (await a.cache.get('swr')) === undefined)
    const gated = gate('new')
    const send = (app: FastifyInstance) => app.cache.getOrSet('swr', long, gated.load, stale)
    assert.deepEqual(await Promise.all([send(a), send(b), send(b)]), ['old', 'old', 'old'])
    gated.open()
    await until(async () => (await send(a)) === 'new' && (await send(b)) === 'new')
    assert.equal(gated.calls, 1)
  })

  test('serve the stale value to every caller while the loader fails', async () => {
    const stale = { staleIfErrorMs: long }
    await a.cache.getOrSet('failing', 30, () => 'old', stale)
    await until(async () => (await a.cache.get('failing')) === undefined)
    let failures = 0
    const fail = async (): Promise<never> => {
      failures++
      throw new Error('down')
    }
    const callers = [a, b].flatMap(({ cache }) =>
      Array.from({ length: 250 }, () => cache.getOrSet('failing', long, fail, stale)),
    )
    assert.deepEqual(new Set(await Promise.all(callers)), new Set(['old']))
    assert.ok(failures > 0)
    assert.equal(await b.cache.getOrSet('failing', long, () => 'old', stale), 'old')
  })

  test('treat memory as stale after the push connection was lost', async () => {
    await a.cache.set('push', 'old', long)
    assert.equal(await b.cache.get('push'), 'old')
    // The value changes while no message arrives.
    await redis.client.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
    const stored = await redis.client.get(b.redisKey('cache', 'push'))
    await redis.client.set(b.redisKey('cache', 'push'), stored?.replace('old', 'new') as string, 'PX', long)
    await until(async () => (await b.cache.get('push')) === 'new')
    await connected([a, b])
  })

  test('ignore values that another application wrote', async () => {
    for (const odd of ['', 'text', '0123456789abcdef 0 {}\n{', '0123456789abcdef x']) {
      await redis.client.set(a.redisKey('cache', 'odd'), odd, 'PX', 60_000)
      assert.equal(await b.cache.get('odd'), undefined)
      assert.equal(await a.cache.getOrSet('odd', long, () => odd), odd)
      await a.cache.delete('odd')
    }
  })

  test('continue after Redis lost its scripts', async () => {
    await redis.client.script('FLUSH')
    assert.equal(await a.cache.getOrSet('flushed', long, () => 1), 1)
    assert.equal(await b.cache.getOrSet('flushed', long, () => 2), 1)
  })
})

describe('processes', () => {
  const worker = new URL('worker.fixture.ts', import.meta.url)
  const redis = ownRedis()

  const start = async () => {
    const app = forkApp(worker, {
      env: { REDIS_URL: redis.server.url, FLEET_NAME: 'processes', LEASE_MS: leaseMs },
      ipc: true,
    })
    await until(() => app.messages.includes('ready'), { what: 'the worker' })
    return app
  }
  const responses = (app: { messages: readonly unknown[] }, key: string) =>
    app.messages.find((message) => (message as Order).key === key) as { callers: number; values: string[] } | undefined

  let workers: [App, App, App, App]
  before(async () => {
    workers = await Promise.all([start(), start(), start(), start()])
  })

  test('four processes with 250 callers each load once', async (t) => {
    for (const key of ['cold', 'colder', 'coldest']) {
      for (const each of workers) each.send({ key, callers: 250, loadMs: 50 } satisfies Order)
      let callers = 0
      for (const each of workers) {
        const response = await until(() => responses(each, key))
        assert.deepEqual(response, { key, callers: 250, values: ['load 1'] })
        callers += response.callers
      }
      const loads = await redis.client.get(`loads of ${key}`)
      t.diagnostic(`${callers} callers in ${workers.length} processes: ${loads} load`)
      assert.deepEqual([callers, loads], [1000, '1'])
    }
  })

  test('renews the lease during a long load', async () => {
    const [slow, other] = workers
    slow.send({ key: 'slow', callers: 1, loadMs: 1.3 * leaseMs } satisfies Order)
    await until(async () => (await redis.client.get('loads of slow')) === '1')
    other.send({ key: 'slow', callers: 1, loadMs: 0 } satisfies Order)
    assert.deepEqual((await until(() => responses(other, 'slow'))).values, ['load 1'])
  })

  test('another process loads, once, if the loading one is killed', async (t) => {
    const [holder, ...others] = workers
    holder.send({ key: 'orphan', callers: 1 } satisfies Order)
    await until(async () => (await redis.client.get('loads of orphan')) === '1')
    for (const each of others) each.send({ key: 'orphan', callers: 50, loadMs: 10 } satisfies Order)
    await holder.kill('SIGKILL')
    const killed = performance.now()
    // Measured by Redis's clock, so that the load of this machine does not matter.
    const left = await redis.client.pttl('processes:cache-lease:{orphan}')
    assert.ok(left > 0 && left <= leaseMs, `${left} ms`)
    await until(async () => (await redis.client.get('loads of orphan')) === '2')
    const ms = Math.round(performance.now() - killed)
    t.diagnostic(`the dead one's lease had ${left} of ${leaseMs} ms left; loaded again after ${ms} ms`)
    for (const each of others) {
      const reply = await until(() => responses(each, 'orphan'))
      assert.deepEqual(reply, { key: 'orphan', callers: 50, values: ['load 2'] })
    }
    assert.equal(await redis.client.get('loads of orphan'), '2')
  })
})

describe('an outage of Redis', () => {
  test('loads once per instance, and serves the stale value if that fails', async () => {
    const server = await startRedis()
    const [a] = (await fleet(server, 1, { errorBackoffMs: 0 })) as [FastifyInstance]
    const stale = { staleIfErrorMs: long }
    await a.cache.getOrSet('known', long, () => 'old', stale)
    await server.kill('SIGKILL')
    await until(async () => (await a.cache.get('known')) === undefined, { what: 'the loss of the push connection' })

    const gated = gate('value')
    const callers = Array.from({ length: 50 }, () => a.cache.getOrSet('cold', long, gated.load))
    await until(() => gated.calls > 0)
    gated.open()
    assert.deepEqual(new Set(await Promise.all(callers)), new Set(['value']))
    assert.equal(gated.calls, 1)
    for (let n = 0; n < 20; n++)
      assert.equal(await a.cache.getOrSet('known', long, () => Promise.reject(new Error('down')), stale), 'old')
    assert.equal(await a.cache.getOrSet('known', long, () => 'new', stale), 'new')
    await a.cache.set('set', 1, long)
    assert.equal(await a.cache.get('set'), 1)
    await a.cache.delete('set')
    await a.cache.deleteByTag('tag')
    assert.equal(await a.cache.get('set'), undefined)
  })

  test('every call ends while Redis is suspended', async () => {
    const server = await startRedis()
    const [a] = (await fleet(server, 1, {}, 200)) as [FastifyInstance]
    await server.kill('SIGSTOP')
    const calls = [
      a.cache.getOrSet('k', long, () => 'loaded'),
      a.cache.get('other'),
      a.cache.set('set', 1, long),
      a.cache.delete('gone'),
    ]
    assert.deepEqual(await Promise.all(calls), ['loaded', undefined, undefined, undefined])
    await server.kill('SIGCONT')
  })

  test('sends pending invalidations when Redis is back', async () => {
    const server = await startRedis({ appendonly: true })
    const [a, b] = (await fleet(server, 2)) as [FastifyInstance, FastifyInstance]
    await a.cache.set('key', 'old', long)
    await a.cache.set('tagged', 'old', long, { tags: ['tag'] })
    await server.kill('SIGKILL')
    await a.cache.delete('key')
    await a.cache.deleteByTag('tag')
    await server.restart()
    const seen = () => Promise.all([a, b].flatMap(({ cache }) => [cache.get('key'), cache.get('tagged')]))
    await until(() => a.redis?.ping(), { what: 'the connection' })
    assert.deepEqual((await seen()).slice(0, 2), [undefined, undefined], 'the one that forgot never sees it again')
    await until(async () => (await b.redis?.exists(b.redisKey('cache', 'key'))) === 0, { what: 'the late deletion' })
    await until(async () => (await b.redis?.exists(b.redisKey('cache-tag', 'tag'))) === 0)
    await connected([a, b])
    assert.deepEqual(await seen(), [undefined, undefined, undefined, undefined])
    // Values loaded during the outage stay in memory only, for a second.
    await until(async () => {
      assert.equal(await a.cache.getOrSet('key', long, () => 'new'), 'new')
      return (await b.cache.get('key')) === 'new'
    })
    assert.equal(await b.cache.getOrSet('key', long, () => 'newer'), 'new')
  })
})

describe('a Redis Cluster', () => {
  let cluster: Cluster
  before(async () => {
    // The default bus port is the port plus 10,000, which may be in use.
    const bus = ['--cluster-port', String(await freePort())]
    const server = await startRedis({
      args: ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1', ...bus],
    })
    const node = new Redis(server.url)
    await node.cluster('ADDSLOTS', ...Array.from({ length: 16_384 }, (_, slot) => slot))
    await until(async () => /cluster_state:ok/.test(await node.cluster('INFO')))
    node.disconnect()
    cluster = new Cluster([{ host: '127.0.0.1', port: server.port }], { enableAutoPipelining: true })
    await until(() => cluster.status === 'ready')
  })
  after(() => cluster.disconnect())

  cacheContract(
    'takes it for one Redis',
    async () => new RedisCacheStore(cluster, (kind, id) => `test:${kind}:{${id}}`),
  )
})
