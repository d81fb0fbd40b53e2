import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CheckRunner } from '../../src/instance/health/runner.ts'
import { until } from '../helpers/until.ts'

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

  it('does not run a check again that was running when it stopped', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const runner = new CheckRunner()
    const gates: PromiseWithResolvers<void>[] = []
    const check = (): Promise<void> => {
      const gate = Promise.withResolvers<void>()
      gates.push(gate)
      return gate.promise
    }
    runner.add('a', check, { ...options, intervalMs: 5_000 })
    const turns = async (): Promise<void> => {
      for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
    }
    runner.start()
    gates[0]?.resolve()
    await turns()
    t.mock.timers.tick(5_000)
    assert.equal(gates.length, 2)
    runner.stop()
    gates[1]?.resolve()
    await turns()
    t.mock.timers.tick(60_000)
    assert.equal(gates.length, 2)
  })

  it('runs no check by itself before the start', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const runner = new CheckRunner()
    let runs = 0
    runner.add('a', () => ++runs < 0, { ...options, fall: 10 })
    await runner.runAll()
    t.mock.timers.tick(options.intervalMs)
    assert.equal(runs, 1)
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

  it('stays degraded while uses go on failing, although its runs pass', async (t) => {
    let now = 10_000
    t.mock.method(performance, 'now', () => now)
    const changes: string[] = []
    const runner = new CheckRunner((_name, { status }) => changes.push(status))
    runner.add('a', () => true, options)
    runner.start()
    t.after(() => runner.stop())
    await runner.runAll()
    runner.failed('a', 'no reply')
    await runner.runAll()
    now += 999
    runner.failed('a', 'no reply')
    now += 999
    await runner.runAll()
    assert.deepEqual(changes, ['degraded'], 'the last failure counts')
    now += 1
    await runner.runAll()
    assert.deepEqual(changes, ['degraded', 'up'])
  })

  it('is no better after a failed use while it is down or has no result', async (t) => {
    const changes: string[] = []
    const runner = new CheckRunner((_name, { status }) => changes.push(status))
    runner.add('a', () => false, options)
    runner.start()
    t.after(() => runner.stop())
    runner.failed('a', 'no reply')
    assert.deepEqual(runner.unmet(), { down: [], pending: ['a'], degraded: [] })
    await runner.runAll()
    runner.failed('a', 'no reply')
    assert.deepEqual(runner.unmet(), { down: ['a'], pending: [], degraded: [] })
    assert.deepEqual([changes, runner.reports().a?.lastError], [['down'], 'returned false'])
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

  it('reports duration, time of the last success, and the name of an error without a message', async (t) => {
    let now = 5_000
    t.mock.method(performance, 'now', () => now)
    t.mock.timers.enable({ apis: ['Date'], now: Date.UTC(2026, 0, 2, 3, 4, 5) })
    const runner = new CheckRunner()
    let error: Error | undefined
    const check = (): void => {
      now += 12.34
      if (error) throw error
    }
    runner.add('a', check, { ...options, critical: false })
    await runner.runAll()
    const passed = { critical: false, latencyMs: 12.3, lastSuccess: '2026-01-02T03:04:05.000Z' }
    assert.deepEqual(runner.reports().a, { ...passed, status: 'up', lastError: null, consecutiveFailures: 0 })
    t.mock.timers.tick(1_000)
    error = new RangeError('')
    await runner.runAll()
    assert.deepEqual(runner.reports().a, { ...passed, status: 'down', lastError: 'RangeError', consecutiveFailures: 1 })
  })

  it('tells what is unmet: a check that is not critical only degrades, also before its first run', async () => {
    const runner = new CheckRunner()
    runner.add('a', () => false, options)
    runner.add('b', () => false, { ...options, critical: false })
    runner.add('c', () => false, { ...options, rise: 1, fall: 2 })
    assert.deepEqual(runner.unmet(), { down: [], pending: ['a', 'c'], degraded: [] })
    await runner.runAll()
    assert.deepEqual(runner.unmet(), { down: ['a', 'c'], pending: [], degraded: ['b'] })
  })

  it('lets no check outlast its timeout, and passes it a signal that ends then', async () => {
    const runner = new CheckRunner()
    const signals: AbortSignal[] = []
    const hang = (signal: AbortSignal): Promise<never> => {
      signals.push(signal)
      return new Promise(() => undefined)
    }
    runner.add('a', hang, { ...options, timeoutMs: 20 })
    // The timer of a signal keeps no process alive.
    const alive = setInterval(() => undefined, 1_000)
    await runner.runAll()
    clearInterval(alive)
    assert.match(String(runner.reports().a?.lastError), /20 ms/)
    assert.deepEqual(
      signals.map(({ aborted }) => aborted),
      [true],
    )
  })
})
