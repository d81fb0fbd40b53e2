import assert from 'node:assert/strict'
import { totalmem } from 'node:os'
import { describe, it, type TestContext } from 'node:test'
import { getHeapStatistics } from 'node:v8'
import Fastify, { type FastifyInstance } from 'fastify'
import { type HealthOptions, health, readiness } from '../../src/instance/health/index.ts'
import type { Peer } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { metrics } from '../../src/instance/metrics/index.ts'

const none = { down: [] as string[], pending: [] as string[], degraded: [] as string[] }
type Other = Partial<Pick<Peer, 'id' | 'state' | 'failing'>>

/** The readiness of the instance `a` among others, which serve unless they say otherwise. */
function judge(unmet: Partial<typeof none>, others: Other[] = [], state = 'serving') {
  const peers = [{ id: 'a', state: 'serving', failing: ['db', 'queue'] }, ...others]
  const fleet = {
    state,
    instance: { id: 'a' },
    peers: () => peers.map((peer) => ({ id: 'b', state: 'serving', failing: [], ...peer })),
  }
  return readiness({ fleet } as never, { ...none, ...unmet })
}

describe('readiness', () => {
  it('needs the state serving', () => {
    assert.deepEqual(judge({}), { ready: true })
    for (const state of ['starting', 'draining', 'closed'])
      assert.deepEqual(judge({ down: ['db'], pending: ['db'] }, [], state), { ready: false, reason: state })
  })

  it('needs the first result of every critical check', () => {
    assert.deepEqual(judge({ pending: ['db'] }), { ready: false, reason: 'starting: db' })
    const both = { pending: ['db', 'queue'], down: ['search'] }
    assert.deepEqual(judge(both, [{ failing: ['search'] }]), { ready: false, reason: 'starting: db, queue' })
  })

  it('needs every critical check, and none that is only degraded', () => {
    assert.deepEqual(judge({ degraded: ['db'] }), { ready: true })
    assert.deepEqual(judge({ down: ['db', 'queue'] }), { ready: false, reason: 'failed: db, queue' })
  })

  it('does not need what every other serving instance has lost too', () => {
    const panic = { ready: true, reason: 'panic: every instance has lost db' }
    assert.deepEqual(judge({ down: ['db'] }, [{ failing: ['db'] }]), panic)
    assert.deepEqual(judge({ down: ['db'] }, [{ failing: ['x', 'db'] }, { id: 'c', failing: ['db'] }]), panic)
    assert.deepEqual(judge({ down: ['db'] }, [{ failing: ['db'] }, { id: 'c', state: 'draining' }]), panic)
    const lost = { down: ['db', 'queue'] }
    const both = { ready: true, reason: 'panic: every instance has lost db, queue' }
    assert.deepEqual(judge(lost, [{ failing: ['queue', 'db'] }]), both)
  })

  it('needs what another serving instance still has', () => {
    const failed = { ready: false, reason: 'failed: db' }
    assert.deepEqual(judge({ down: ['db'] }, [{ failing: ['db'] }, { id: 'c' }]), failed)
    assert.deepEqual(judge({ down: ['db'] }, [{ failing: ['queue'] }]), failed)
    const lost = { down: ['db', 'queue'] }
    for (const failing of [['db'], ['queue']])
      assert.deepEqual(judge(lost, [{ failing }]), { ready: false, reason: 'failed: db, queue' })
    assert.deepEqual(judge(lost, [{ failing: ['db'] }, { id: 'c', failing: ['queue'] }]).ready, false)
  })

  it('does not count this instance, nor those that do not serve, as others that have lost it', () => {
    const failed = { ready: false, reason: 'failed: db' }
    assert.deepEqual(judge({ down: ['db'] }), failed)
    for (const state of ['starting', 'draining', 'closed'] as const)
      assert.deepEqual(judge({ down: ['db'] }, [{ state, failing: ['db'] }]), failed)
  })
})

async function build(t: TestContext, options: HealthOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(lifecycle, { signals: false })
  const checks = { intervalMs: 3_600_000, timeoutMs: 60_000, rise: 1, fall: 1 }
  await app.register(health, { checks, memory: false, eventLoop: false, maxStuckMs: 3_600_000, ...options })
  return app
}

describe('a change of a check', () => {
  for (const critical of [true, false])
    it(`${critical ? 'is' : 'is not'} announced to the peers if it is ${critical ? '' : 'not '}critical`, async (t) => {
      const app = await build(t)
      let announced = 0
      app.fleet.announce = () => void announced++
      let up = true
      app.health.add('store', () => up, { critical })
      await app.listen({ port: 0, host: '127.0.0.1' })
      await app.health.check()
      assert.equal(announced, 0, 'the first success is no change')
      for (up of [false, false, true, true]) await app.health.check()
      assert.equal(announced, critical ? 2 : 0)
      app.health.failed('store', new Error('no reply'))
      assert.equal(announced, critical ? 3 : 0)
      app.health.failed('store', 'again')
      assert.equal(announced, critical ? 3 : 0)
      await app.health.check()
    })

  it('is reported to peers as failing only if the check is critical', async (t) => {
    const app = await build(t)
    app.health.add('store', () => false)
    app.health.add('search', () => false, { critical: false })
    await app.ready()
    await app.health.check()
    const { failing, degraded, checks } = app.fleet.self()
    assert.deepEqual([failing, degraded, checks], [['store'], ['search'], ['store!', 'search']])
  })
})

describe('memory metrics', () => {
  it('are shares of the limits', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(metrics, { runtime: false })
    await app.register(health, { memory: false, eventLoop: false })
    const share = async (name: string): Promise<number> =>
      Number((await app.metrics.getSingleMetric(name)?.get())?.values[0]?.value)
    const { rss, heapUsed } = process.memoryUsage()
    const total = rss / (await share('fleet_memory_utilization'))
    assert.ok(total > 1e8 && total <= totalmem() * 2, `${total}`)
    const limit = heapUsed / (await share('fleet_heap_utilization'))
    const { heap_size_limit } = getHeapStatistics()
    assert.ok(limit > heap_size_limit / 2 && limit < heap_size_limit * 2, `${limit}`)
    const aggregator = (name: string): unknown =>
      (app.metrics.getSingleMetric(name) as { aggregator?: string }).aggregator
    assert.equal(aggregator('fleet_heap_utilization'), 'max', 'of several workers the fullest heap counts')
    assert.equal(aggregator('fleet_memory_utilization'), 'sum', 'the workers share one limit')
  })
})

describe('the names of checks that peers read', () => {
  it('have a bounded length', async (t) => {
    const app = await build(t)
    const names = Array.from({ length: 9 }, (_, i) => String(i).repeat(512))
    for (const name of names) app.health.add(name, () => true, { critical: false })
    await app.ready()
    assert.deepEqual(app.fleet.self().checks, names.slice(0, 8))
  })
})

describe('the log', () => {
  it('has a line for each change of a check', async (t) => {
    const lines: { level: number; msg: string; check?: string; critical?: boolean; error?: string }[] = []
    const app = Fastify({ logger: { stream: { write: (line: string) => lines.push(JSON.parse(line)) } } })
    t.after(() => app.close())
    const checks = { intervalMs: 3_600_000, rise: 1, fall: 2 }
    await app.register(health, { checks, memory: false, eventLoop: false })
    let up = true
    app.health.add('store', () => up, { critical: false })
    await app.ready()
    for (up of [true, false, false, true]) await app.health.check()
    const error = 'returned false'
    assert.deepEqual(
      lines
        .filter(({ check }) => check === 'store')
        .map(({ level, msg, critical, error }) => [level, msg, critical, error]),
      [
        [40, 'health check degraded', false, error],
        [40, 'health check failed', false, error],
        [30, 'health check passes again', false, undefined],
      ],
    )
  })
})

describe('the checks of an app', () => {
  it('end with it', async (t) => {
    const app = await build(t)
    app.health.add('store', () => true)
    await app.ready()
    await app.health.check()
    await app.close()
    app.health.failed('store', 'after the end')
    assert.equal(app.health.reports.store?.status, 'up')
  })
})

describe('the status', () => {
  it('is unhealthy only while the instance serves and cannot become ready', async (t) => {
    const app = await build(t)
    app.health.add('store', () => false)
    await app.ready()
    await app.health.check()
    assert.equal(app.health.status, 'degraded', 'it does not serve yet')
    await app.listen({ port: 0, host: '127.0.0.1' })
    assert.equal(app.health.status, 'unhealthy')
    app.fleet.peers = () => [{ ...app.fleet.self(), id: 'other', failing: ['store'] }]
    assert.equal(app.health.status, 'degraded', 'the others have lost it too')
    app.fleet.peers = () => []
    app.fleet.drain()
    assert.equal(app.health.status, 'degraded', 'it drains anyway')
  })
})

describe('the disk of /health/detailed', () => {
  it('is the root without a disk check, and the path of the check with one', async (t) => {
    for (const [disk, path] of [
      [false, '/'],
      [{ path: '/proc' }, '/proc'],
    ] as const) {
      const app = await build(t, { disk })
      const { body } = await app.inject('/health/detailed')
      assert.equal(JSON.parse(body).disk.path, path)
    }
  })
})

describe('options of checks', () => {
  it('of the built-in ones are their own, and they only degrade unless they are critical', async (t) => {
    const criticalOf = async (options: HealthOptions): Promise<object> => {
      const { reports } = (await build(t, options)).health
      return Object.fromEntries(Object.entries(reports).map(([name, { critical }]) => [name, critical]))
    }
    assert.deepEqual(await criticalOf({ memory: {}, eventLoop: {}, disk: {} }), {
      memory: false,
      eventLoop: false,
      disk: false,
    })
    const critical = { critical: true }
    const all = await criticalOf({ memory: critical, eventLoop: critical, disk: critical })
    assert.deepEqual(all, { memory: true, eventLoop: true, disk: true })
  })

  it('have bounds', async () => {
    for (const [given, name] of [
      [{ memory: { maxHeapShare: 1.01 } }, 'maxHeapShare'],
      [{ memory: { maxRssShare: -0.01 } }, 'maxRssShare'],
      [{ disk: { minFreeShare: 1.01 } }, 'minFreeShare'],
      [{ disk: { minFreeBytes: -1 } }, 'minFreeBytes'],
      [{ eventLoop: { maxDelayMs: 0 } }, 'maxDelayMs'],
      [{ eventLoop: { maxDelayMs: 600_001 } }, 'maxDelayMs'],
      [{ eventLoop: { maxUtilization: 1.01 } }, 'maxUtilization'],
      [{ checks: { intervalMs: 99 } }, 'intervalMs'],
      [{ checks: { intervalMs: 3_600_001 } }, 'intervalMs'],
      [{ checks: { timeoutMs: 0 } }, 'timeoutMs'],
      [{ checks: { timeoutMs: 600_001 } }, 'timeoutMs'],
      [{ checks: { rise: 0 } }, 'rise'],
      [{ checks: { rise: 101 } }, 'rise'],
      [{ checks: { fall: 101 } }, 'fall'],
      [{ maxStuckMs: 99 }, 'maxStuckMs'],
      [{ maxStuckMs: 3_600_001 }, 'maxStuckMs'],
    ] as const)
      await assert.rejects(async () => await Fastify().register(health, given as HealthOptions), {
        code: 'FLEET_ERR_OPTION_INVALID',
        message: new RegExp(name),
      })
    const app = Fastify()
    await app.register(health, {
      memory: { maxHeapShare: 1, maxRssShare: 0 },
      checks: { intervalMs: 100, timeoutMs: 1, rise: 1, fall: 100 },
      eventLoop: { maxDelayMs: 1, maxUtilization: 1 },
      maxStuckMs: 100,
    })
    await app.close()
  })
})
