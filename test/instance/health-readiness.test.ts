import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { type HealthOptions, health, readiness } from '../../src/instance/health/index.ts'
import { CheckRunner } from '../../src/instance/health/runner.ts'
import type { Peer } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { until } from '../helpers/until.ts'

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

  it('is reported to peers only if the check is critical', async (t) => {
    const app = await build(t)
    app.health.add('store', () => false)
    app.health.add('search', () => false, { critical: false })
    await app.ready()
    await app.health.check()
    assert.deepEqual(app.fleet.self().failing, ['store'])
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

const options = { critical: true, intervalMs: 3_600_000, timeoutMs: 60_000, rise: 1, fall: 1 }

describe('a check runner', () => {
  it('runs a check that is added after the start, and none after the stop', async () => {
    const runner = new CheckRunner()
    const runs: string[] = []
    runner.add('a', () => void runs.push('a'), options)
    assert.equal(runs.length, 0)
    runner.start()
    runner.start()
    runner.add('b', () => void runs.push('b'), options)
    await until(() => runner.unmet().pending.length === 0)
    assert.deepEqual(runs, ['a', 'b'])
    runner.stop()
    runner.add('c', () => void runs.push('c'), options)
    runner.failed('a', 'after the stop')
    assert.deepEqual([runner.reports().a?.status, runs], ['up', ['a', 'b']])
  })

  it('runs each check at its interval, and every second while it is degraded', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const runner = new CheckRunner()
    let runs = 0
    let up = true
    runner.add('a', () => ++runs > 0 && up, { ...options, intervalMs: 5_000, fall: 10 })
    const pass = async (ms: number): Promise<number> => {
      t.mock.timers.tick(ms)
      for (let i = 0; i < 5; i++) await new Promise(setImmediate)
      return runs
    }
    runner.start()
    t.after(() => runner.stop())
    assert.deepEqual([await pass(0), await pass(4_999), await pass(1), await pass(4_999)], [1, 1, 2, 2])
    up = false
    assert.deepEqual([await pass(1), await pass(999), await pass(1), await pass(1_000)], [3, 3, 4, 5])
    up = true
    assert.deepEqual([await pass(1_000), await pass(4_999), await pass(1)], [6, 6, 7])
    runner.stop()
    assert.equal(await pass(60_000), 7)
  })

  it('runs a check with a shorter interval no less often while it is degraded', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const runner = new CheckRunner()
    let runs = 0
    runner.add('a', () => ++runs < 2, { ...options, intervalMs: 100, fall: 10 })
    runner.start()
    t.after(() => runner.stop())
    for (let i = 1; i <= 4; i++) {
      for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
      assert.equal(runs, i)
      t.mock.timers.tick(100)
    }
  })

  it('stays degraded for a second after a failed use, and then needs one pass', async (t) => {
    let now = 10_000
    t.mock.method(performance, 'now', () => now)
    const changes: string[] = []
    const runner = new CheckRunner((name, { status, lastError }) => changes.push(`${name} ${status} ${lastError}`))
    runner.add('a', () => true, { ...options, rise: 3 })
    runner.start()
    t.after(() => runner.stop())
    await runner.runAll()
    runner.failed('a', 'no reply')
    await runner.runAll()
    now += 999
    await runner.runAll()
    assert.deepEqual(changes, ['a degraded no reply'])
    now += 1
    await runner.runAll()
    assert.deepEqual(changes, ['a degraded no reply', 'a up no reply'])
  })

  it('reports a first failure, and every change after that once', async () => {
    const changes: string[] = []
    const runner = new CheckRunner((_name, { status }) => changes.push(status))
    let up = false
    runner.add('a', () => up, { ...options, rise: 2, fall: 2 })
    await runner.runAll()
    assert.deepEqual(changes, ['down'], 'the first result counts')
    for (up of [true, false, true, true, false, false, false]) await runner.runAll()
    assert.deepEqual(changes, ['down', 'up', 'degraded', 'down'])
  })

  it('counts passes and failures in a row from the start of each row', async () => {
    const runner = new CheckRunner()
    let up = true
    runner.add('a', () => up, { ...options, rise: 3, fall: 2 })
    const seen: string[] = []
    for (up of [true, true, true, false, false, true, true, false, true, true, true]) {
      await runner.runAll()
      seen.push(String(runner.reports().a?.status))
    }
    assert.deepEqual(seen.slice(3), ['degraded', 'down', 'down', 'down', 'down', 'down', 'down', 'up'])
  })
})
