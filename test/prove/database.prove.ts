import assert from 'node:assert/strict'
import type { ReadCounts } from '../../src/database/router.ts'
import { startCluster } from '../database/cluster.ts'
import { query } from '../database/databases.ts'
import { Visitor } from '../database/shop.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { Customers, phase } from './faults/customers.ts'
import { Shop, startDatabase } from './faults/shop.ts'
import { prove } from './prove.ts'

/** Reads of other data per write, besides the one of the written data. */
const otherReads = 3

prove('writes, each read at once from another of three processes, cause no stale read', 'own-writes', async (proof) => {
  const [users, pairsEach] = [40, proof.pick(5, 1000)]
  const { primary, one, two } = await startCluster({ recovery_min_apply_delay: '200ms' })
  const ports = await Promise.all(
    [1, 2, 3].map(async () => {
      const child = forkApp(new URL('../database/own-writes.fixture.ts', import.meta.url), {
        args: [primary.url, one.url, two.url],
      })
      return (await child.waitFor(/listening on (\d+)/))[1]
    }),
  )
  const url = (index: number): string => `http://127.0.0.1:${ports[index % ports.length]}`
  for (const index of [0, 1, 2]) await until(async () => (await (await fetch(`${url(index)}/fit`)).json()) === 2)

  const counts = { requests: 0, failed: 0, stale: 0 }
  async function send<T>(visitor: Visitor, index: number, path: string, body?: object): Promise<T> {
    counts.requests++
    const response = await fetch(url(index) + path, {
      headers: { cookie: visitor.header, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { method: 'POST', body: JSON.stringify(body) }),
    })
    if (!response.ok) {
      counts.failed++
      assert.fail(`${path}: ${response.status} ${await response.text()}`)
    }
    visitor.learn(response.headers.getSetCookie())
    return (await response.json()) as T
  }
  async function user(number: number): Promise<void> {
    const visitor = new Visitor()
    const reader = new Visitor()
    const sku = `user-${number}`
    for (let price = 1; price <= pairsEach; price++) {
      await send(visitor, price, price % 2 || price === 1 ? '/items' : '/batch', { sku, price })
      const read = await send<{ price: number }>(visitor, price + 1, `/items/${sku}`)
      if (read.price !== price) counts.stale++
      // A client that has written nothing.
      for (let i = 0; i < otherReads; i++) await send(reader, price + i, '/items/a')
    }
  }
  try {
    await Promise.all(Array.from({ length: users }, (_, number) => user(number)))
  } finally {
    proof.count(counts)
  }
  const reads = await Promise.all([0, 1, 2].map((index) => send<ReadCounts>(new Visitor(), index, '/reads')))
  const onPrimary = reads.reduce((sum, { primary }) => sum + primary, 0)
  const onReplicas = reads.flatMap(({ replicas }) => replicas).reduce((sum, count) => sum + count, 0)
  const share = (100 * onReplicas) / (onPrimary + onReplicas)
  proof.note(`${share.toFixed(1)} % of the reads on replicas`)
  assert.equal(counts.stale, 0)
  assert.ok(share > 50)
})

prove(
  'a replica and then the primary killed under load: reads go on, no acknowledged order is lost or repeated',
  'database-failover',
  async (proof) => {
    for (let round = 0; round < proof.pick(1, 10); round++) {
      const database = await startDatabase()
      const redis = await startRedis()
      const shop = await Shop.start({ front: 'fleet balance', env: { REDIS_URL: redis.url }, database })
      const customers = Customers.start(shop)
      try {
        await customers.more(150)
        // Without a fault for customers: reads in progress are repeated on the primary.
        await database.replica.kill()
        await customers.more(100)
        await database.replica.restart()
        await shop.healthy()
        await customers.more(50)

        // An order is acknowledged once the replica has it.
        await query(database.primary.url, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        await query(database.primary.url, 'SELECT pg_reload_conf()')
        await until(async () => {
          const [row] = await query(database.primary.url, 'SELECT sync_state FROM pg_stat_replication')
          return row?.sync_state === 'sync'
        })
        await customers.more(50)
        const faulty = phase('failover', true)
        customers.phase = faulty
        await database.primary.kill()
        await until(() => faulty.failures.size > 0, { what: 'the first failure' })
        await query(database.replica.url, 'SELECT pg_promote()')
        shop.database = { primary: database.replica, replica: database.replica }
        await shop.healthy()
        customers.phase = phase('after the failover', false)
        await customers.more(150)
        await customers.stop()
        const unexpected = [...faulty.failures.keys()].filter((kind) => !isUnavailable(kind))
        assert.deepEqual([unexpected, customers.wrong], [[], []])
        proof.count({ failovers: 1 })
      } finally {
        await customers.halt()
        proof.count(customers.counts)
        for (const { child } of shop.instances) await child?.kill()
        await Promise.all([shop.front.stop(), redis.stop(), database.primary.stop(), database.replica.stop()])
      }
    }
  },
)

/** Reads may fail too: those of a customer whose last order the replica had not replayed yet. */
const isUnavailable = (kind: string): boolean =>
  /^(?:POST|GET) \/orders 503 FLEET_ERR_DATABASE_(?:UNAVAILABLE|BUSY)$/.test(kind) ||
  kind === 'POST /orders 409 FLEET_ERR_IDEMPOTENCY_IN_FLIGHT'
