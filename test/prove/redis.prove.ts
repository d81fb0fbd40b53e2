import assert from 'node:assert/strict'
import { after } from 'node:test'
import type { RedisServer } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { type RedisCluster, startCluster } from '../state/topologies.ts'
import { Customers, phase } from './faults/customers.ts'
import { fillDisk } from './faults/faults.ts'
import { ReadyWatch } from './faults/ready-watch.ts'
import { direct, type Node, RedisPair, startNode } from './faults/redis-pair.ts'
import { Shop } from './faults/shop.ts'
import { type Proof, prove } from './prove.ts'

/** A Redis with replicas. */
interface Replicated {
  readonly env: Record<string, string>
  replicated(): Promise<boolean>
  /** Kills a primary. @returns starts it again as a replica */
  kill(round: number): Promise<() => Promise<unknown>>
  healthy(): Promise<unknown>
}

const topologies: Record<string, () => Promise<Replicated>> = {
  Sentinel: async () => {
    const pair = await RedisPair.start('127.0.0.1')
    after(() => pair.close())
    return {
      env: { REDIS_SENTINELS: pair.sentinels },
      replicated: () => pair.replicated(),
      kill: async () => {
        const node = await pair.primary()
        await node.server.kill()
        return () => pair.restart(node)
      },
      healthy: () => pair.healthy(),
    }
  },
  Cluster: async () => {
    const cluster = await startCluster()
    const primaries = (): Promise<RedisServer[]> => primariesOf(cluster)
    return {
      env: { REDIS_CLUSTER: cluster.nodes.join() },
      replicated: async () => {
        const counts = (await primaries()).map((server) => direct({ server }, (client) => client.call('WAIT', 1, 500)))
        return (await Promise.all(counts)).every((count) => Number(count) === 1)
      },
      kill: async (round) => {
        const all = await primaries()
        const server = all[round % all.length]
        await server?.kill()
        return async () => server?.restart()
      },
      healthy: () =>
        until(async () => {
          const all = await primaries()
          const facts = await Promise.all(
            all.map((server) => direct({ server }, (client) => client.info('replication'))),
          )
          return all.length === 3 && facts.every((info) => info.includes('state=online'))
        }),
    }
  },
}

async function primariesOf({ servers, replicas }: RedisCluster): Promise<RedisServer[]> {
  const all = [...servers, ...replicas].filter((server) => server.child.ended === undefined)
  const roles = await Promise.all(all.map((server) => direct({ server }, (client) => client.role())))
  return all.filter((_, i) => roles[i]?.[0] === 'master')
}

/** Runs `fault` while customers are at work, and until every instance is healthy. @returns the failures meanwhile */
async function during(
  name: string,
  shop: Shop,
  customers: Customers,
  fault: () => Promise<unknown>,
): Promise<string[]> {
  const faulty = phase(name, true)
  customers.phase = faulty
  await fault()
  await shop.healthy()
  customers.phase = phase(`after ${name}`, false)
  await customers.more(100)
  await customers.account()
  return [...faulty.failures.keys()]
}

/** A shop under load, without a failure before and after `body`, always ready, and with everything that was acknowledged. */
async function underLoad(
  { count }: Proof,
  env: Record<string, string>,
  body: (shop: Shop, customers: Customers) => Promise<unknown>,
): Promise<void> {
  const shop = await Shop.start({ front: 'fleet balance', env })
  const customers = Customers.start(shop)
  const watch = new ReadyWatch(shop)
  try {
    await customers.more(150)
    await body(shop, customers)
    await customers.stop()
  } finally {
    await Promise.all([customers.halt(), watch.stop()])
    count(customers.counts)
  }
  assert.deepEqual([customers.wrong, watch.unready], [[], []])
  assert.ok(watch.degraded)
}

for (const [name, start] of Object.entries(topologies))
  prove(
    `Redis ${name}: a failover under load loses no replicated write and repeats no order`,
    'redis-failover',
    async (proof) => {
      const redis = await start()
      await underLoad(proof, redis.env, async (shop, customers) => {
        for (let round = 0; round < proof.pick(1, 20); round++) {
          await customers.beforeFailover(() => redis.replicated())
          let restart: () => Promise<unknown> = async () => {}
          const failures = await during('failover', shop, customers, async () => {
            restart = await redis.kill(round)
            await until(() => customers.phase.failures.size > 0, { what: 'the first failure' })
          })
          assert.deepEqual(
            failures.filter((kind) => !isUnavailable(kind)),
            [],
          )
          await restart()
          await redis.healthy()
          proof.count({ failovers: 1 })
        }
      })
    },
    // `npm test` has a failover of a Cluster too.
    { fullOnly: name === 'Cluster' },
  )

/** 503 for requests that need Redis; 409: the response of this order could not be stored yet. */
const isUnavailable = (kind: string): boolean =>
  /^\w+ \/(?:me|login|visits|orders) 503 FLEET_ERR_STATE_UNAVAILABLE$/.test(kind) || isClaimed(kind)
const isClaimed = (kind: string): boolean => kind === 'POST /orders 409 FLEET_ERR_IDEMPOTENCY_IN_FLIGHT'

/** What happens to the only Redis, and the failures that docs/faults.md allows. */
const troubles: [name: string, begin: (node: Node) => Promise<() => unknown>, allowed: (kind: string) => boolean][] = [
  [
    'restarted',
    async ({ server }) => {
      await server.kill()
      return () => server.restart()
    },
    isUnavailable,
  ],
  [
    'partitioned',
    async ({ relay }) => {
      relay.silence()
      return async () => {
        relay.cut()
        await relay.restore()
      }
    },
    isUnavailable,
  ],
  [
    'slow',
    async ({ relay }) => {
      relay.delay(80)
      return () => relay.delay(0)
    },
    () => false,
  ],
  [
    'full',
    async (node) => {
      await direct(node, (client) => client.config('SET', 'maxmemory', 1))
      return () => direct(node, (client) => client.config('SET', 'maxmemory', 0))
    },
    (kind) => /^POST \/(?:visits|orders) 503 FLEET_ERR_STATE_FULL$/.test(kind) || isClaimed(kind),
  ],
  ['on a full disk', fillDisk, (kind) => isUnavailable(kind) && kind.startsWith('POST')],
]

prove(
  'Redis restarted, partitioned, slow, full and on a full disk under load: nothing is lost',
  'redis-faults',
  async (proof) => {
    const node = await startNode()
    await underLoad(proof, { REDIS_URL: `redis://127.0.0.1:${node.relay.port}` }, async (shop, customers) => {
      for (let round = 0; round < proof.pick(1, 10); round++)
        for (const [name, begin, allowed] of troubles) {
          const failures = await during(name, shop, customers, async () => {
            const end = await begin(node)
            if (name === 'slow') await customers.more(100)
            else await until(() => customers.phase.failures.size > 0, { what: 'the first failure' })
            await end()
          })
          assert.deepEqual(
            failures.filter((kind) => !allowed(kind)),
            [],
            name,
          )
          proof.count({ faults: 1 })
        }
    })
  },
  { fullOnly: true },
)
