import assert from 'node:assert/strict'
import { it } from 'node:test'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { scrape } from '../../../src/instance/metrics/index.ts'

it('each format has its own names of counters, in any order of scrapes', async () => {
  const registry = new Registry()
  const registers = [registry]
  new Counter({ name: 'drains_total', help: 'Drains', labelNames: ['by'], registers }).inc({ by: 'operator' }, 2)
  new Gauge({ name: 'peers', help: 'Peers', registers }).set(3)
  new Histogram({ name: 'seconds', help: 'Time', buckets: [1], registers }).observe(0.5)
  const plain = await scrape(registry, 'prometheus')
  assert.match(plain, /^# TYPE drains_total counter\ndrains_total\{by="operator"\} 2$/m)
  const open = await scrape(registry, 'openmetrics')
  assert.match(open, /^# TYPE drains counter\ndrains_total\{by="operator"\} 2$/m)
  assert.match(open, /^peers 3$/m)
  assert.match(open, /^seconds_bucket\{le="1"\} 1$/m)
  assert.equal(await scrape(registry, 'prometheus'), plain)
  assert.equal(await scrape(registry, 'openmetrics'), open)
})
