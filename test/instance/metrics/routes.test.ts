import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { Registry } from 'prom-client'
import { health } from '../../../src/instance/health/index.ts'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { type MetricsOptions, metrics } from '../../../src/instance/metrics/index.ts'
import { RouteTimes } from '../../../src/instance/metrics/routes.ts'

const request = (method: string, url: string | undefined, config: object): FastifyRequest =>
  ({ method, routeOptions: { url, config } }) as FastifyRequest

/** The lines of a scrape without comments, those of one series. */
async function lines(times: RouteTimes, labels = ''): Promise<string[]> {
  const registry = new Registry()
  times.register(registry)
  const text = await registry.metrics()
  return text.split('\n').filter((line) => line.startsWith('http_') && line.includes(labels))
}
const name = 'http_request_duration_seconds'

describe('response times by route', () => {
  it('are counted in all buckets from the first whose upper bound is not exceeded, in seconds', async () => {
    const times = new RouteTimes([1, 0.5])
    const [home, labels] = [{}, 'method="GET",route="/",status_code="200"']
    for (const ms of [499.9, 500, 500.1, 1_000, 1_001]) times.observe(request('GET', '/', home), 200, ms)
    assert.deepEqual(await lines(times), [
      `${name}_bucket{le="0.5",${labels}} 2`,
      `${name}_bucket{le="1",${labels}} 4`,
      `${name}_bucket{le="+Inf",${labels}} 5`,
      `${name}_sum{${labels}} 3.501`,
      `${name}_count{${labels}} 5`,
    ])
  })

  it('are apart for each route, method and status, and together for routes of the same pattern', async () => {
    const times = new RouteTimes([1])
    const [a, b, other] = [{}, {}, {}]
    times.observe(request('GET', '/a', a), 200, 1)
    times.observe(request('GET', '/a', a), 404, 1)
    times.observe(request('POST', '/a', a), 200, 1)
    for (const config of [b, other, b, other]) times.observe(request('GET', undefined, config), 404, 1)
    const counts = (await lines(times, '_count')).map((line) => line.slice(name.length))
    assert.deepEqual(counts, [
      '_count{method="GET",route="/a",status_code="200"} 1',
      '_count{method="GET",route="/a",status_code="404"} 1',
      '_count{method="POST",route="/a",status_code="200"} 1',
      '_count{method="GET",route="unknown",status_code="404"} 4',
    ])
  })

  it('begin anew after a reset', async () => {
    const times = new RouteTimes([1])
    const config = {}
    times.observe(request('GET', '/', config), 200, 1)
    times.reset()
    assert.deepEqual(await lines(times), [])
    times.observe(request('GET', '/', config), 200, 1)
    assert.equal((await lines(times, '_count')).length, 1)
    assert.match((await lines(times, '_count'))[0] ?? '', / 1$/)
  })
})

async function build(t: TestContext, options: MetricsOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(lifecycle, { signals: false })
  await app.register(metrics, { runtime: false, ...options })
  await app.register(health, { memory: false, eventLoop: false, checks: { intervalMs: 3_600_000, fall: 1 } })
  app.get('/', async () => 'hello')
  return app
}

describe('the metrics of an instance', () => {
  it('tell whether it is ready, whether it drains, its peers and its checks', async (t) => {
    const app = await build(t)
    app.health.add('store', () => true)
    app.health.add('search', () => false, { critical: false })
    const figures = async (): Promise<string[]> =>
      (await app.inject('/metrics')).body.match(/^fleet_(?:ready|dr|pe|ch).*/gm) ?? []
    await app.ready()
    await app.health.check()
    const checks = [
      'fleet_check_up{check="store",critical="true"} 1',
      'fleet_check_up{check="search",critical="false"} 0',
    ]
    assert.deepEqual(await figures(), ['fleet_ready 0', 'fleet_draining 0', 'fleet_peers 1', ...checks])
    await app.listen({ port: 0, host: '127.0.0.1' })
    app.fleet.peers = () => [app.fleet.self(), app.fleet.self()]
    assert.deepEqual(await figures(), ['fleet_ready 1', 'fleet_draining 0', 'fleet_peers 2', ...checks])
    app.fleet.drain()
    assert.deepEqual(await figures(), ['fleet_ready 0', 'fleet_draining 1', 'fleet_peers 2', ...checks])
  })

  it('of several workers are combined so that a problem of one shows', async (t) => {
    const app = await build(t)
    const combined = (name: string): unknown =>
      (app.metrics.getSingleMetric(name) as { aggregator?: string }).aggregator
    const names = ['ready', 'draining', 'peers', 'event_loop_utilization', 'check_up'].map((each) => `fleet_${each}`)
    assert.deepEqual(names.map(combined), ['min', 'max', 'max', 'average', 'min'])
    assert.equal(combined(name), 'sum')
  })

  it('have the configured buckets, and no figures of the process with `runtime: false`', async (t) => {
    const app = await build(t, { buckets: [0.25] })
    await app.inject('/')
    const { body, headers } = await app.inject('/metrics')
    const bounds = [...body.matchAll(/le="([^"]+)",method="GET",route="\/",status_code="200"/g)].map(([, le]) => le)
    assert.deepEqual(bounds, ['0.25', '+Inf'])
    assert.doesNotMatch(body, /^(?:process|nodejs)_/m)
    assert.equal(headers['cache-control'], 'no-store')
    assert.match(String(headers['content-type']), /^text\/plain; version=0\.0\.4/)
  })

  it('are served at the configured path or not at all', async (t) => {
    const status = async (options: MetricsOptions, url: string): Promise<number> =>
      (await (await build(t, options)).inject(url)).statusCode
    assert.deepEqual([await status({ path: '/m' }, '/m'), await status({ path: '/m' }, '/metrics')], [200, 404])
    assert.equal(await status({ path: false }, '/metrics'), 404)
  })
})
