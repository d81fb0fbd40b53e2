import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Registry } from 'prom-client'
import { poolMetrics, routingMetrics } from '../../src/database/database-metrics.ts'
import { databaseState } from '../../src/database/database-state.ts'
import { fakeRouter } from './fake-servers.ts'

/** The lines of a scrape whose metric has this name, without the prefix that all share. */
async function scraped(registry: Registry, name: string): Promise<string[]> {
  const prefix = `fleet_database_${name}`
  const lines = (await registry.metrics()).split('\n')
  return lines.filter((line) => line.startsWith(prefix)).map((line) => line.slice(prefix.length))
}

describe('the metrics of pools', () => {
  it('are connections by state, and queries that wait or were rejected', async () => {
    const registry = new Registry()
    const states = [
      { name: 'primary', max: 10, busy: 3, idle: 1, waiting: 2, refused: 5 },
      { name: 'replica_1', max: 4, busy: 0, idle: 4, waiting: 0, refused: 0 },
    ]
    const pools = { states, onWait: undefined }
    poolMetrics(pools as never, registry)
    for (const _ of [1, 2]) {
      assert.deepEqual(await scraped(registry, 'pool_connections'), [
        '{pool="primary",state="busy"} 3',
        '{pool="primary",state="idle"} 1',
        '{pool="primary",state="max"} 10',
        '{pool="replica_1",state="busy"} 0',
        '{pool="replica_1",state="idle"} 4',
        '{pool="replica_1",state="max"} 4',
      ])
      assert.deepEqual(await scraped(registry, 'pool_waiting'), ['{pool="primary"} 2', '{pool="replica_1"} 0'])
      assert.deepEqual(await scraped(registry, 'pool_refused_total'), ['{pool="primary"} 5', '{pool="replica_1"} 0'])
    }
    pools.states = [{ name: 'primary', max: 10, busy: 0, idle: 0, waiting: 0, refused: 6 }]
    assert.deepEqual(await scraped(registry, 'pool_refused_total'), ['{pool="primary"} 6'])
  })

  it('have the time that queries waited, in seconds', async () => {
    const registry = new Registry()
    const pools: { states: []; onWait?: (pool: string, ms: number) => void } = { states: [] }
    poolMetrics(pools as never, registry)
    for (const [pool, ms] of [
      ['primary', 1],
      ['primary', 1.5],
      ['replica_1', 500],
      ['primary', 2_001],
    ] as const)
      pools.onWait?.(pool, ms)
    const bucket = async (pool: string): Promise<string[]> =>
      (await scraped(registry, 'pool_wait_seconds_bucket')).flatMap((line) =>
        line.includes(`pool="${pool}"`) ? (/le="(.*?)".* (\d+)$/.exec(line)?.slice(1).join(' ') ?? []) : [],
      )
    assert.deepEqual(await bucket('primary'), ['0.001 1', '0.005 2', '0.025 2', '0.1 2', '0.5 2', '2 2', '+Inf 3'])
    assert.deepEqual(await scraped(registry, 'pool_wait_seconds_sum'), [
      '{pool="primary"} 2.0035',
      '{pool="replica_1"} 0.5',
    ])
  })
})

describe('the metrics of the routing', () => {
  it('are reads by server, and health and lag of the replicas', async () => {
    const registry = new Registry()
    const reads = { primary: 7, own: 3, refused: 2, replicas: [5, 0] }
    const replicas = [
      { index: 0, healthy: true, lagMs: 1_250 },
      { index: 1, healthy: false, lagMs: 0 },
    ]
    routingMetrics({ set: { replicas }, reads } as never, registry)
    for (const _ of [1, 2]) {
      assert.deepEqual(await scraped(registry, 'reads_total'), [
        '{server="primary"} 7',
        '{server="replica_1"} 5',
        '{server="replica_2"} 0',
      ])
      assert.deepEqual(await scraped(registry, 'own_reads_on_primary_total'), [' 3'])
      assert.deepEqual(await scraped(registry, 'reads_refused_total'), [' 2'])
      assert.deepEqual(await scraped(registry, 'replica_up'), ['{replica="replica_1"} 1', '{replica="replica_2"} 0'])
      assert.deepEqual(await scraped(registry, 'replica_lag_seconds'), [
        '{replica="replica_1"} 1.25',
        '{replica="replica_2"} 0',
      ])
    }
  })

  it('of several workers are those of the one that sees most of a problem', () => {
    const registry = new Registry()
    routingMetrics({ set: { replicas: [] }, reads: { replicas: [] } } as never, registry)
    const aggregator = (name: string): unknown =>
      (registry.getSingleMetric(`fleet_database_${name}`) as { aggregator?: string } | undefined)?.aggregator
    assert.deepEqual([aggregator('replica_up'), aggregator('replica_lag_seconds')], ['min', 'max'])
  })
})

it('operators see a degraded primary, lost replicas, and the share of all reads that each replica served', async () => {
  const { router } = await fakeRouter(2)
  router.reads.primary = 1
  router.reads.replicas[0] = 2
  router.set.replicas[1]?.failed()
  const { primary, replicas } = databaseState('degraded', router, undefined)
  assert.deepEqual(primary, { state: 'degraded', pool: null })
  assert.deepEqual(
    replicas.map(({ name, state, share }) => [name, state, share]),
    [
      ['replica_1', 'ok', 0.667],
      ['replica_2', 'down', 0],
    ],
  )
  for (const status of ['down', 'pending', undefined] as const)
    assert.equal(databaseState(status, router, undefined).primary.state, 'down')
})
