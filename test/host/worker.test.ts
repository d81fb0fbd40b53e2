import assert from 'node:assert/strict'
import cluster from 'node:cluster'
import { afterEach, beforeEach, describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { Gauge, Summary } from 'prom-client'
import type { FromWorker, Snapshot, ToWorker } from '../../src/host/messages.ts'
import { worker } from '../../src/host/worker.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { metrics } from '../../src/instance/metrics/index.ts'
import { liveObjects } from '../helpers/live-objects.ts'
import { until } from '../helpers/until.ts'

/** Messages of this process to its parent, which the test stands in for. */
let sent: FromWorker[] = []
const kinds = (): string[] => sent.map((message) => (typeof message === 'string' ? message : message.fleet))
const find = <K extends string>(kind: K) =>
  sent.filter((message) => typeof message !== 'string' && message.fleet === kind) as Extract<FromWorker, { fleet: K }>[]
const tell = (message: ToWorker | unknown): void => void process.emit('message', message as never, undefined as never)

const set = (object: object, name: string, value: unknown): void =>
  void Object.defineProperty(object, name, { value, configurable: true, writable: true })

/** Opens a channel to a parent process. @param number the worker's number of `fleet start`; absent: another parent */
function openChannel(number: string | undefined): void {
  set(process, 'send', (message: FromWorker, ...rest: unknown[]) => {
    sent.push(message)
    ;(rest.at(-1) as () => void)()
    return true
  })
  set(process, 'connected', true)
  set(cluster, 'isWorker', number !== undefined)
  if (number !== undefined) process.env.FLEET_WORKER = number
}

beforeEach(() => {
  sent = []
})
afterEach(() => {
  for (const name of ['send', 'connected']) delete (process as unknown as Record<string, unknown>)[name]
  set(cluster, 'isWorker', false)
  delete process.env.FLEET_WORKER
  delete process.env.FLEET_READY_TIMEOUT
})

async function build(t: TestContext, { counts = false } = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(lifecycle, { signals: false })
  if (counts) await app.register(metrics)
  await app.register(worker)
  return app
}

const anywhere = { port: 0, host: '127.0.0.1' }

describe('without fleet start', () => {
  it('does nothing in a process without a parent that listens', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(worker)
    assert.equal(app.hasPlugin('fleet-lifecycle'), false)
    assert.equal(process.listenerCount('message'), 0)
  })

  it('tells another parent `ready` once all apps of the process serve, and nothing else', async (t) => {
    openChannel(undefined)
    t.mock.timers.enable({ apis: ['setInterval'] })
    const [first, second] = [await build(t), await build(t)]
    await first.listen(anywhere)
    t.mock.timers.tick(100)
    assert.deepEqual(sent, [])
    await second.listen(anywhere)
    t.mock.timers.tick(100)
    assert.deepEqual(sent, ['ready'])
    first.fleet.drain()
    first.fleet.undrain()
    assert.deepEqual(sent, ['ready'])
  })

  it('is no worker of fleet start without its number, nor outside a cluster', async (t) => {
    openChannel('1')
    delete process.env.FLEET_WORKER
    await build(t)
    openChannel('1')
    set(cluster, 'isWorker', false)
    await build(t)
    assert.deepEqual(sent, [])
  })
})

it('delays listening until the critical checks pass, for FLEET_READY_TIMEOUT', async (t) => {
  openChannel(undefined)
  process.env.FLEET_READY_TIMEOUT = '60000'
  const app = await build(t)
  let reads = 0
  const report = { critical: true, status: 'pending' }
  const reports = (): object => ({ database: ++reads && report })
  app.decorate('health', { getter: () => ({ reports: reports() }) } as never)
  const listening = app.listen(anywhere)
  await until(() => reads >= 2)
  assert.equal(app.server.listening, false)
  report.status = 'up'
  await listening
})

it('listens at once without FLEET_READY_TIMEOUT, whatever the critical checks report', async (t) => {
  openChannel(undefined)
  const app = await build(t)
  app.decorate('health', { reports: { database: { critical: true, status: 'down' } } } as never)
  await app.listen(anywhere)
  assert.equal(app.server.listening, true)
})

describe('as a worker of fleet start', () => {
  it('says hello once, and sends its memory every second', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] })
    openChannel('1')
    await build(t)
    await build(t)
    assert.deepEqual(sent, [{ fleet: 'hello' }])
    t.mock.method(process.memoryUsage, 'rss', () => 123)
    t.mock.timers.tick(999)
    assert.equal(sent.length, 1)
    t.mock.timers.tick(1)
    assert.deepEqual(sent.slice(1), [{ fleet: 'beat', rss: 123 }])
    t.mock.timers.tick(1_000)
    assert.deepEqual(sent.slice(2), [{ fleet: 'beat', rss: 123 }])
  })

  it('tells the group of a drain by an operator, and follows one of the group without telling it again', async (t) => {
    openChannel('1')
    const apps = [await build(t), await build(t)]
    for (const app of apps) await app.listen(anywhere)
    sent = []
    const [first] = apps as [FastifyInstance]
    const states = (): string[] => apps.map(({ fleet }) => fleet.state)
    first.fleet.drain()
    assert.deepEqual([sent, states()], [[{ fleet: 'drain' }], ['draining', 'serving']])
    first.fleet.undrain()
    assert.deepEqual(
      [sent, states()],
      [
        [{ fleet: 'drain' }, { fleet: 'undrain' }],
        ['serving', 'serving'],
      ],
    )
    sent = []
    tell({ fleet: 'drain' })
    assert.deepEqual(states(), ['draining', 'draining'])
    tell({ fleet: 'undrain' })
    assert.deepEqual([sent, states()], [[], ['serving', 'serving']])
  })

  it('records the end of another worker, if there is a history', async (t) => {
    openChannel('1')
    const app = await build(t)
    await app.listen(anywhere)
    tell({ fleet: 'ended', instance: 'shop-2', how: 'SIGKILL' })
    const posted: unknown[] = []
    Object.assign(app.fleet, {
      history: {
        post: async (event: unknown) => {
          posted.push(event)
          throw new Error('Redis is down')
        },
      },
    })
    tell({ fleet: 'ended', instance: 'shop-2', how: 'SIGKILL' })
    assert.deepEqual(posted, [{ kind: 'killed', instance: 'shop-2', text: 'SIGKILL' }])
  })

  it('sends nothing to a parent that is gone', async (t) => {
    openChannel('1')
    const app = await build(t)
    await app.listen(anywhere)
    sent = []
    set(process, 'connected', false)
    app.fleet.drain()
    await app.close()
    assert.deepEqual(sent, [])
  })

  it('ignores messages of others on the same channel', async (t) => {
    openChannel('1')
    const app = await build(t)
    await app.listen(anywhere)
    for (const message of ['drain', null, 3, {}, { type: 'drain' }, { fleet: 'nothing' }]) tell(message)
    assert.equal(app.fleet.state, 'serving')
  })

  it('sends its metrics on request, without values that are not finite', async (t) => {
    openChannel('1')
    const app = await build(t, { counts: true })
    const registers = [app.metrics]
    new Gauge({ name: 'queue', help: 'q', registers }).set(7)
    new Gauge({ name: 'mean', help: 'm', registers }).set(Number.NaN)
    tell({ fleet: 'collect', id: 9 })
    await until(() => find('figures').length > 0)
    const { id, snapshots = [] } = find('figures')[0] ?? {}
    const values = (name: string) => snapshots.flat().find((metric) => metric.name === name)?.values
    assert.deepEqual([id, values('queue')?.map(({ value }) => value), values('mean')], [9, [7], []])
  })

  it('serves the metrics of the group, each scrape its own, without quantiles that cannot be merged', async (t) => {
    openChannel('1')
    const app = await build(t, { counts: true })
    const registers = [app.metrics]
    new Summary({ name: 'price', help: 'p', registers }).observe(5)
    const [first, second] = ['0.0.4', '0.0.4'].map(() => app.metricsSource.text('prometheus' as never))
    await until(() => find('scrape').length === 2)
    const [one, two] = find('scrape').map(({ id }) => id) as [number, number]
    assert.notEqual(one, two)
    const own = (await app.metrics.getMetricsAsJSON()) as unknown as Snapshot
    const gauge = (value: number): Snapshot => [
      { name: 'workers', help: 'w', type: 'gauge', aggregator: 'sum', values: [{ value, labels: {} }] },
    ]
    tell({ fleet: 'group', id: two + 1, snapshots: [gauge(99)] })
    tell({ fleet: 'group', id: two, snapshots: [gauge(2)] })
    tell({ fleet: 'group', id: one, snapshots: [own, own, gauge(1)] })
    assert.match((await second) ?? '', /^workers 2$/m)
    const text = (await first) ?? ''
    assert.match(text, /^workers 1$/m)
    assert.match(text, /^price_count 2$/m)
    assert.doesNotMatch(text, /^price\{/m)
  })

  it('serves its own metrics when the group does not respond within three seconds', async (t) => {
    openChannel('1')
    const app = await build(t, { counts: true })
    new Gauge({ name: 'own_queue', help: 'q', registers: [app.metrics] }).set(7)
    t.mock.timers.enable({ apis: ['setTimeout'] })
    let text: string | undefined
    const scraped = app.metricsSource.text('prometheus' as never).then((its) => {
      text = its
    })
    t.mock.timers.tick(2_999)
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
    assert.equal(text, undefined)
    t.mock.timers.tick(1)
    await scraped
    assert.match(text ?? '', /^own_queue 7$/m)
  })

  it('keeps no metrics of the group in memory after a scrape', async (t) => {
    openChannel('1')
    const app = await build(t, { counts: true })
    class Mark {}
    t.mock.timers.enable({ apis: ['setTimeout'] })
    for (let i = 0; i < 50; i++) {
      sent = []
      const text = app.metricsSource.text('prometheus' as never)
      await until(() => find('scrape').length === 1)
      const { id } = find('scrape')[0] as { id: number }
      const metric = { name: 'workers', help: 'w', type: 'gauge', aggregator: 'sum', values: [] } as const
      tell({ fleet: 'group', id, snapshots: [[Object.assign(new Mark(), metric)]] })
      await text
    }
    // The limit of each scrape, which is over.
    t.mock.timers.tick(3_000)
    await until(() => liveObjects(Mark) <= 5, { what: 'the end of the metrics' })
  })

  it('sends its last metrics while it closes, and stops listening to the group with its last app', async (t) => {
    openChannel('1')
    const [first, second] = [await build(t, { counts: true }), await build(t)]
    assert.equal(process.listenerCount('message'), 1)
    sent = []
    await first.close()
    assert.deepEqual(kinds(), ['figures'])
    assert.equal(find('figures')[0]?.id, undefined)
    assert.equal(process.listenerCount('message'), 1)
    await second.close()
    assert.equal(process.listenerCount('message'), 0)
  })

  it('listens to the group again for an app that is built after another one was closed', async (t) => {
    openChannel('1')
    const app = await build(t)
    await app.listen(anywhere)
    tell({ fleet: 'drain' })
    assert.equal(app.fleet.state, 'draining')
  })

  it('shuts down once, as the group says, and exits with the largest code', async (t) => {
    openChannel('1')
    const apps = [await build(t), await build(t)]
    const exits: unknown[] = []
    t.mock.method(process, 'exit', ((code: number) => void exits.push(code)) as never)
    const shutdowns: unknown[] = []
    for (const [i, app] of apps.entries()) {
      app.fleet.shutdown = async (...given) => {
        shutdowns.push(given)
        return i
      }
    }
    tell({ fleet: 'shutdown', handover: true })
    tell({ fleet: 'shutdown', handover: false })
    await until(() => exits.length > 0)
    const given = ['replaced by a new worker', { handover: true }]
    assert.deepEqual([shutdowns, exits], [[given, given], [1]])
  })
})
