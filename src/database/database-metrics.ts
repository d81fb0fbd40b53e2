import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { Pools } from './pools.ts'
import type { Router } from './router.ts'

const poolLabel = ['pool'] as const

/** Connections, and the time that queries wait for one. Labelled by pool name, so cardinality is bounded. */
export function poolMetrics(pools: Pools, registry: Registry): void {
  const registers = [registry]
  const wait = new Histogram({
    name: 'fleet_database_pool_wait_seconds',
    help: 'Time a query waited for a connection',
    labelNames: poolLabel,
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2],
    registers,
  })
  const bound = new Map<string, { observe(seconds: number): void }>()
  pools.onWait = (pool, ms) => {
    const child = bound.get(pool) ?? wait.labels(pool)
    bound.set(pool, child)
    child.observe(ms / 1_000)
  }
  const connections = new Gauge({
    name: 'fleet_database_pool_connections',
    help: 'Connections by state; `max` is the limit',
    labelNames: ['pool', 'state'],
    registers,
    collect() {
      for (const { name, busy, idle, max } of pools.states) {
        connections.set({ pool: name, state: 'busy' }, busy)
        connections.set({ pool: name, state: 'idle' }, idle)
        connections.set({ pool: name, state: 'max' }, max)
      }
    },
  })
  const waiting = new Gauge({
    name: 'fleet_database_pool_waiting',
    help: 'Queries waiting for a connection',
    labelNames: poolLabel,
    registers,
    collect() {
      for (const state of pools.states) waiting.set({ pool: state.name }, state.waiting)
    },
  })
  const rejected = new Counter({
    name: 'fleet_database_pool_refused_total',
    help: 'Queries rejected because too many waited for a connection or none was free in time',
    labelNames: poolLabel,
    registers,
    collect() {
      rejected.reset()
      for (const state of pools.states) rejected.inc({ pool: state.name }, state.refused)
    },
  })
}

/** Reads by server, and the state and lag of the replicas. */
export function routingMetrics({ set, reads }: Router, registry: Registry): void {
  const registers = [registry]
  const name = (index: number): string => `replica_${index + 1}`
  const counted = new Counter({
    name: 'fleet_database_reads_total',
    help: 'Reads by server',
    labelNames: ['server'],
    registers,
    collect() {
      counted.reset()
      counted.inc({ server: 'primary' }, reads.primary)
      for (const [index, count] of reads.replicas.entries()) counted.inc({ server: name(index) }, count)
    },
  })
  const total = (metric: string, help: string, count: () => number): void => {
    const counter = new Counter({
      name: metric,
      help,
      registers,
      collect() {
        counter.reset()
        counter.inc(count())
      },
    })
  }
  total(
    'fleet_database_own_reads_on_primary_total',
    "Reads on the primary because no replica had replayed the client's writes",
    () => reads.own,
  )
  total('fleet_database_reads_refused_total', 'Reads rejected because no replica was healthy', () => reads.refused)
  const up = new Gauge({
    name: 'fleet_database_replica_up',
    help: 'Whether a replica is healthy: 1 or 0',
    labelNames: ['replica'],
    aggregator: 'min',
    registers,
    collect() {
      for (const { index, healthy } of set.replicas) up.set({ replica: name(index) }, healthy ? 1 : 0)
    },
  })
  const lag = new Gauge({
    name: 'fleet_database_replica_lag_seconds',
    help: 'Age of the oldest write that a replica has not replayed',
    labelNames: ['replica'],
    aggregator: 'max',
    registers,
    collect() {
      for (const { index, lagMs } of set.replicas) lag.set({ replica: name(index) }, lagMs / 1_000)
    },
  })
}
