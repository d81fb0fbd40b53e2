import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { expose, exposeCount, exposeGauge } from '../../../src/instance/metrics/expose.ts'
import { metrics } from '../../../src/instance/metrics/index.ts'

async function open(t: TestContext, hasMetrics: boolean): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  if (hasMetrics) await app.register(metrics)
  return app
}

/** The lines of a scrape that have this name. */
const scrape = async (app: FastifyInstance, name: string): Promise<string[]> =>
  (await app.metrics.metrics()).split('\n').filter((line) => line.split(/[ {]/).includes(name))

describe('a metric that is read on each scrape', () => {
  it('is a counter with a value per label', async (t) => {
    const app = await open(t, true)
    const counts = { hit: 2, miss: 5 }
    expose(app, 'lookups_total', 'Lookups', 'result', counts)
    const described = ['# HELP lookups_total Lookups', '# TYPE lookups_total counter']
    const first = [...described, 'lookups_total{result="hit"} 2', 'lookups_total{result="miss"} 5']
    assert.deepEqual([await scrape(app, 'lookups_total'), await scrape(app, 'lookups_total')], [first, first])
    counts.hit = 3
    assert.deepEqual(await scrape(app, 'lookups_total'), first.with(2, 'lookups_total{result="hit"} 3'))
  })

  it('is a counter without labels', async (t) => {
    const app = await open(t, true)
    let count = 4
    exposeCount(app, 'starts_total', 'Starts', () => count)
    const described = ['# HELP starts_total Starts', '# TYPE starts_total counter']
    for (const value of [4, 4, 7]) {
      count = value
      assert.deepEqual(await scrape(app, 'starts_total'), [...described, `starts_total ${value}`])
    }
  })

  it('is a gauge, of which workers are added up unless it names another aggregator', async (t) => {
    const app = await open(t, true)
    let value = 1
    exposeGauge(app, 'open_files', 'Open files', () => value)
    exposeGauge(app, 'fullest', 'The fullest', () => value, 'max')
    const files = ['# HELP open_files Open files', '# TYPE open_files gauge']
    for (value of [1, 0.5]) assert.deepEqual(await scrape(app, 'open_files'), [...files, `open_files ${value}`])
    const aggregators = ['open_files', 'fullest'].map(
      (name) => (app.metrics.getSingleMetric(name) as { aggregator?: string } | undefined)?.aggregator,
    )
    assert.deepEqual(aggregators, ['sum', 'max'])
  })

  it('does not exist without the metrics plugin', async (t) => {
    const app = await open(t, false)
    const read = (): number => assert.fail('there is no scrape')
    expose(app, 'lookups_total', 'Lookups', 'result', { hit: 1 })
    exposeCount(app, 'starts_total', 'Starts', read)
    exposeGauge(app, 'open_files', 'Open files', read)
    assert.equal(app.hasDecorator('metrics'), false)
  })
})
