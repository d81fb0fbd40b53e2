import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry, Summary } from 'prom-client'
import {
  counted,
  GroupMetrics,
  type MetricsSource,
  metric,
  sum,
  withoutMergedQuantiles,
} from '../../src/host/group-metrics.ts'
import type { Snapshot } from '../../src/host/messages.ts'

/** A process that responds when asked, unless it is silent. */
class Process implements MetricsSource {
  silent = false
  requests = 0
  readonly #group: GroupMetrics

  constructor(group: GroupMetrics) {
    this.#group = group
  }

  get snapshot(): Snapshot {
    return [
      metric('counter', 'requests_total', 'r', [{ labels: { route: '/' }, value: this.requests }]),
      metric('gauge', 'open', 'o', [{ labels: {}, value: 1 }]),
    ]
  }

  collect(id: number): boolean {
    if (!this.silent) setImmediate(() => this.#group.receive(this, [this.snapshot], id))
    return !this.silent
  }

  end(): void {
    this.#group.receive(this, [this.snapshot])
    this.#group.remove(this)
  }
}

/** Waits for all processes that are not silent, then lets the limit pass on a mocked clock. */
async function gatherInTime(t: TestContext, group: GroupMetrics, processes: readonly Process[]): Promise<Gathered> {
  const gathered = group.gather(processes)
  await nextTurn()
  t.mock.timers.tick(limitMs)
  return gathered
}
type Gathered = Awaited<ReturnType<GroupMetrics['gather']>>
const limitMs = 1_000

function value(snapshots: readonly Snapshot[], name: string): number | undefined {
  return sum(snapshots).find((f) => f.name === name)?.values[0]?.value
}

test('adds up the metrics of all processes that respond', async () => {
  const group = new GroupMetrics(5_000)
  const processes = [new Process(group), new Process(group)]
  for (const [i, process] of processes.entries()) process.requests = i + 1
  const snapshots = await group.gather(processes)
  assert.equal(value(snapshots, 'requests_total'), 3)
  assert.equal(value(snapshots, 'open'), 2)
  assert.equal(value(snapshots, 'fleet_workers_silent'), 0)
  assert.equal(value(snapshots, 'fleet_partial_scrapes_total'), 0)
})

test('uses the last counters and no gauges of a silent process, and counts the scrape as partial', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const group = new GroupMetrics(limitMs)
  const [a, b] = [new Process(group), new Process(group)]
  a.requests = b.requests = 10
  await group.gather([a, b])
  b.silent = true
  a.requests = 11
  const snapshots = await gatherInTime(t, group, [a, b])
  assert.equal(value(snapshots, 'requests_total'), 21)
  assert.equal(value(snapshots, 'open'), 1)
  assert.equal(value(snapshots, 'fleet_workers_silent'), 1)
  assert.equal(value(snapshots, 'fleet_partial_scrapes_total'), 1)
  b.silent = false
  b.requests = 12
  const again = await group.gather([a, b])
  assert.equal(value(again, 'requests_total'), 23)
  assert.equal(value(again, 'fleet_workers_silent'), 0)
  assert.equal(value(again, 'fleet_partial_scrapes_total'), 1)
})

test('waits for a silent process exactly as long as the limit', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const group = new GroupMetrics(limitMs)
  const process = new Process(group)
  process.silent = true
  let settled = false
  const gathered = group.gather([process]).finally(() => {
    settled = true
  })
  t.mock.timers.tick(limitMs - 1)
  await nextTurn()
  assert.equal(settled, false)
  t.mock.timers.tick(1)
  assert.equal(value(await gathered, 'fleet_workers_silent'), 1)
})

test('waits for a process that responds to an earlier scrape only, and takes its counters', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const group = new GroupMetrics(limitMs)
  const process = new Process(group)
  process.silent = true
  await gatherInTime(t, group, [process])
  const gathered = group.gather([process])
  process.requests = 4
  group.receive(process, [process.snapshot], 1)
  await nextTurn()
  t.mock.timers.tick(limitMs)
  const snapshots = await gathered
  assert.deepEqual([value(snapshots, 'fleet_workers_silent'), value(snapshots, 'requests_total')], [1, 4])
})

test('does not end at the limit of the scrape before it', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const group = new GroupMetrics(limitMs)
  const process = new Process(group)
  await group.gather([process])
  t.mock.timers.tick(limitMs / 2)
  process.silent = true
  const gathered = group.gather([process])
  t.mock.timers.tick(limitMs / 2)
  group.receive(process, [process.snapshot], 2)
  t.mock.timers.tick(limitMs)
  const snapshots = await gathered
  assert.deepEqual([value(snapshots, 'fleet_workers_silent'), value(snapshots, 'open')], [0, 1])
})

test('never decreases a counter when processes come and go', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const group = new GroupMetrics(limitMs)
  let processes = [new Process(group), new Process(group), new Process(group)]
  let before = 0
  for (let round = 0; round < 200; round++) {
    for (const process of processes) {
      process.requests += Math.floor(Math.random() * 10)
      process.silent = Math.random() < 0.1
    }
    if (round % 7 === 0) {
      const [gone] = processes.splice(Math.floor(Math.random() * processes.length), 1)
      if (round % 2 === 0) gone?.end()
      else if (gone) group.remove(gone)
      processes = [...processes, new Process(group)]
    }
    const now = value(await gatherInTime(t, group, processes), 'requests_total') ?? 0
    assert.ok(now >= before, `${before} → ${now}`)
    before = now
  }
})

test('takes no gauges of a process that ended or is not asked any more', async () => {
  const group = new GroupMetrics(60_000)
  const processes = [new Process(group), new Process(group), new Process(group)]
  for (const process of processes) process.requests = 1
  const [asked, ended] = processes as [Process, Process]
  assert.equal(value(await group.gather(processes), 'open'), 3)
  ended.end()
  const snapshots = await group.gather([asked])
  assert.deepEqual([value(snapshots, 'requests_total'), value(snapshots, 'open')], [3, 1])
})

test('stops waiting for a process that ends', async () => {
  const group = new GroupMetrics(60_000)
  const [a, b] = [new Process(group), new Process(group)]
  a.requests = b.requests = 1
  b.silent = true
  const gathered = group.gather([a, b])
  b.end()
  assert.equal(value(await gathered, 'requests_total'), 2)
})

test('shares the result among concurrent callers', async () => {
  const group = new GroupMetrics(5_000)
  const process = new Process(group)
  const [first, second] = await Promise.all([group.gather([process]), group.gather([process])])
  assert.equal(first, second)
})

test('works without any process', async () => {
  assert.equal(value(await new GroupMetrics(60_000).gather([]), 'fleet_workers_silent'), 0)
})

test('a metric of the group itself is a sum', () => {
  const values = [{ labels: {}, value: 1 }]
  assert.deepEqual(metric('gauge', 'n', 'h', values), {
    type: 'gauge',
    name: 'n',
    help: 'h',
    values,
    aggregator: 'sum',
  })
})

test('adds up metrics of prom-client like prom-client does', async () => {
  const registries = [1, 2].map((factor) => {
    const registry = new Registry()
    const registers = [registry]
    new Counter({ name: 'c_total', help: 'c', labelNames: ['a'], registers }).inc({ a: 'x' }, factor)
    new Gauge({ name: 'g', help: 'g', registers }).set(factor)
    new Histogram({ name: 'h', help: 'h', buckets: [1, 2], registers }).observe(factor)
    new Summary({ name: 's', help: 's', registers }).observe(factor)
    return registry
  })
  const snapshots = (await Promise.all(registries.map((r) => r.getMetricsAsJSON()))) as unknown as Snapshot[]
  const text = await AggregatorRegistry.aggregate([sum(snapshots.map(counted))]).metrics()
  assert.match(text, /c_total\{a="x"\} 3\n/)
  assert.match(text, /h_bucket\{le="1"\} 1\nh_bucket\{le="2"\} 2\nh_bucket\{le="\+Inf"\} 2\nh_sum 3\nh_count 2/)
  assert.match(text, /s_sum 3\ns_count 2/)
  assert.doesNotMatch(text, /quantile|^g /m)
})

test('adds up the count and sum of a summary, never its quantiles', async () => {
  const snapshots = await Promise.all(
    [1, 2].map(async (worker) => {
      const registry = new Registry()
      const registers = [registry]
      const shared = new Summary({ name: 'price', help: 'p', labelNames: ['shop'], registers })
      for (let i = 0; i < 10; i++) shared.observe({ shop: 'a' }, 5)
      new Summary({ name: `only_${worker}`, help: 'o', registers }).observe(7)
      new Gauge({ name: 'limit', help: 'l', labelNames: ['quantile'], registers }).set({ quantile: 'x' }, 1)
      return (await registry.getMetricsAsJSON()) as unknown as Snapshot
    }),
  )
  const text = await AggregatorRegistry.aggregate([...withoutMergedQuantiles(snapshots)]).metrics()
  assert.match(text, /price_sum\{shop="a"\} 100\nprice_count\{shop="a"\} 20\n/)
  assert.doesNotMatch(text, /price\{/)
  assert.match(text, /only_1\{quantile="0.5"\} 7\n/)
  assert.match(text, /limit\{quantile="x"\} 2\n/)
})
