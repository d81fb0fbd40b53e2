import {
  Counter,
  type CounterConfiguration,
  Gauge,
  type GaugeConfiguration,
  Histogram,
  type Registry,
} from 'prom-client'
import type { Pools } from './pools.ts'
import type { Router } from './router.ts'

type Value = readonly [labels: Record<string, string>, value: number]
type Options = CounterConfiguration<string> | GaugeConfiguration<string>

/** Registers a metric whose values are read on each scrape. */
function scraped(Metric: typeof Counter | typeof Gauge, options: Options, read: () => readonly Value[]): void {
  const metric: Counter | Gauge = new Metric({
    ...options,
    collect() {
      metric.reset()
      for (const [labels, value] of read()) metric.inc(labels, value)
    },
  })
}

/** Connections, and the time that queries wait for one. Labelled by pool name, so cardinality is bounded. */
export function poolMetrics(pools: Pools, registry: Registry): void {
  const common = { labelNames: ['pool'], registers: [registry] }
  const wait = new Histogram({
    ...common,
    name: 'fleet_database_pool_wait_seconds',
    help: 'Time a query waited for a connection',
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2],
  })
  const bound = new Map<string, { observe(seconds: number): void }>()
  pools.onWait = (pool, ms) => {
    const child = bound.get(pool) ?? wait.labels(pool)
    bound.set(pool, child)
    child.observe(ms / 1_000)
  }
  const connections = { ...common, labelNames: ['pool', 'state'], name: 'fleet_database_pool_connections' }
  scraped(Gauge, { ...connections, help: 'Connections by state; `max` is the limit' }, () =>
    pools.states.flatMap(({ name: pool, busy, idle, max }): Value[] => [
      [{ pool, state: 'busy' }, busy],
      [{ pool, state: 'idle' }, idle],
      [{ pool, state: 'max' }, max],
    ]),
  )
  const waiting = { ...common, name: 'fleet_database_pool_waiting', help: 'Queries waiting for a connection' }
  scraped(Gauge, waiting, () => pools.states.map(({ name, waiting }) => [{ pool: name }, waiting]))
  const rejected = {
    ...common,
    name: 'fleet_database_pool_refused_total',
    help: 'Queries rejected because too many waited for a connection or none was free in time',
  }
  scraped(Counter, rejected, () => pools.states.map(({ name, refused }) => [{ pool: name }, refused]))
}

/** Reads by server, and the state and lag of the replicas. */
export function routingMetrics({ set, reads }: Router, registry: Registry): void {
  const registers = [registry]
  const name = (index: number): string => `replica_${index + 1}`
  const byServer = { name: 'fleet_database_reads_total', help: 'Reads by server', labelNames: ['server'], registers }
  scraped(Counter, byServer, () => [
    [{ server: 'primary' }, reads.primary],
    ...reads.replicas.map((count, index): Value => [{ server: name(index) }, count]),
  ])
  const own = {
    name: 'fleet_database_own_reads_on_primary_total',
    help: "Reads on the primary because no replica had replayed the client's writes",
    registers,
  }
  scraped(Counter, own, () => [[{}, reads.own]])
  const rejected = {
    name: 'fleet_database_reads_refused_total',
    help: 'Reads rejected because no replica was healthy',
    registers,
  }
  scraped(Counter, rejected, () => [[{}, reads.refused]])
  const up = {
    name: 'fleet_database_replica_up',
    help: 'Whether a replica is healthy: 1 or 0',
    labelNames: ['replica'],
    aggregator: 'min',
    registers,
  } as const
  scraped(Gauge, up, () => set.replicas.map(({ index, healthy }) => [{ replica: name(index) }, healthy ? 1 : 0]))
  const lag = {
    name: 'fleet_database_replica_lag_seconds',
    help: 'Age of the oldest write that a replica has not replayed',
    labelNames: ['replica'],
    aggregator: 'max',
    registers,
  } as const
  scraped(Gauge, lag, () => set.replicas.map(({ index, lagMs }) => [{ replica: name(index) }, lagMs / 1_000]))
}
