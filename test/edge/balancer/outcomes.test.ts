import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import { undici } from '../../../src/base/internals/undici.ts'
import { Balancer, type BalancerOptions } from '../../../src/edge/balancer/balancer.ts'
import type { Failure } from '../../../src/edge/balancer/context.ts'
import { PeakEwma } from '../../../src/edge/balancer/peak-ewma.ts'
import { Target, type TargetOptions } from '../../../src/edge/balancer/target.ts'
import { clock } from '../../helpers/clock.ts'
import { balancerDefaults } from './stub.ts'

const urls = ['http://10.0.0.1:1', 'http://10.0.0.2:1', 'http://10.0.0.3:1']

function balancerOf(t: TestContext, options: BalancerOptions = {}) {
  const time = clock(t)
  const balancer = new Balancer(urls, { probe: { type: 'off' }, ...options })
  t.after(() => balancer.close())
  const [target] = balancer.targets as [Target]
  const record = (status: number, failure?: Failure, ms = 40): boolean => {
    const startedAt = performance.now() - ms
    return balancer.context.recordOutcome(target, status, failure, startedAt)
  }
  return { balancer, target, record, time }
}

describe('the outcome of a request', () => {
  it('is a failure if it was lost, refused, or has a 5xx other than 501 and 505', (t) => {
    for (const [status, failed] of [
      ...([
        [200, false],
        [404, false],
        [499, false],
        [501, false],
        [505, false],
      ] as const),
      ...([
        [500, true],
        [502, true],
        [503, true],
        [504, true],
        [506, true],
        [599, true],
      ] as const),
    ]) {
      const { target, record } = balancerOf(t)
      record(status)
      assert.deepEqual([target.served, target.failed, target.failing], [1, failed ? 1 : 0, failed], `${status}`)
      t.mock.restoreAll()
    }
    const { target, record } = balancerOf(t)
    record(0, 'lost')
    assert.deepEqual([target.failed, target.failing, target.state], [1, true, 'up'])
    record(200)
    assert.deepEqual([target.served, target.failed, target.failing], [2, 1, false])
  })

  it('counts as its latency, and a failure as a second at least', (t) => {
    const { target, record, time } = balancerOf(t)
    record(200, undefined, 40)
    assert.equal(target.latency.at(time.now()), 40)
    record(500, undefined, 40)
    assert.equal(target.latency.at(time.now()), 1000)
  })

  it('takes a target out that refuses: by its probe, else as an outlier', (t) => {
    const { target, record } = balancerOf(t)
    record(0, 'refused')
    assert.equal(target.state, 'ejected')
    t.mock.restoreAll()
    const probed = balancerOf(t, { probe: { type: 'tcp', intervalMs: 1000 } })
    probed.record(0, 'refused')
    assert.equal(probed.target.state, 'down')
  })

  it('counts no more once its probe or a drain has taken the target out: the next ejection is the first again', (t) => {
    for (const state of ['down', 'draining'] as const) {
      const { balancer, target, record, time } = balancerOf(t)
      const { rotation } = balancer.context
      for (let crash = 0; crash < 4; crash++) {
        for (let i = 0; i < 5; i++) record(0, 'lost')
        assert.equal(target.state, 'ejected')
        rotation.move(target, state)
        for (let i = 0; i < 4; i++) record(0, 'lost')
        rotation.move(target, 'up')
        record(0, 'lost')
        assert.deepEqual([target.state, target.onTrial], ['up', false], 'failures of requests from before do not count')
        record(200)
      }
      for (let i = 0; i < 5; i++) record(0, 'lost')
      time.tick(9_999)
      assert.deepEqual([target.state, target.onTrial], ['ejected', false])
      time.tick(1)
      assert.deepEqual([target.state, target.onTrial], ['up', true])
      rotation.move(target, state)
      rotation.move(target, 'up')
      assert.equal(target.onTrial, false, 'it is no longer on trial')
      t.mock.restoreAll()
    }
  })

  it('blames a target for failures in a row', (t) => {
    const { record } = balancerOf(t, { outliers: { consecutive: 0 } })
    assert.deepEqual([record(200), record(500), record(500)], [false, false, true])
  })
})

describe('the latency of a target', () => {
  const after = (ms: number): number => Math.exp(-ms / 3000)
  const close = (found: number, expected: number): void => assert.ok(Math.abs(found - expected) < 1e-9, `${found}`)

  it('rises at once and falls with time', () => {
    const latency = new PeakEwma()
    assert.equal(latency.at(0), 0)
    latency.observe(100, 1000)
    assert.equal(latency.at(1000), 100)
    close(latency.at(4000), 100 * after(3000))
    latency.observe(200, 4000)
    assert.equal(latency.at(4000), 200)
    latency.observe(50, 5000)
    close(latency.at(5000), 200 * after(1000) + 50 * (1 - after(1000)))
  })

  it('doubles with a failure, from a second to a minute', () => {
    const latency = new PeakEwma()
    latency.observe(100, 0)
    latency.punish(0)
    assert.equal(latency.at(0), 1000)
    latency.punish(3000)
    close(latency.at(3000), 1000)
    latency.observe(700, 3000)
    for (const expected of [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
      latency.punish(3000)
      close(latency.at(3000), expected)
    }
  })
})

describe('a target', () => {
  const target = (options: Partial<TargetOptions> = {}): Target =>
    new Target({ url: 'http://a:1', ...options }, balancerDefaults.connections)

  it('has defaults, and an id that does not show its address', () => {
    const { weight, backup, canary, maxConnections, http2, basePath, state, inflight, served, failed, id, tls } =
      target()
    assert.deepEqual([weight, backup, canary, maxConnections, http2, basePath], [100, false, false, 0, false, ''])
    assert.deepEqual([state, inflight, served, failed], ['unproven', 0, 0, 0])
    assert.match(id, /^[\da-f]{12}$/)
    assert.equal(id, target().id)
    for (const url of ['http://a:2', 'https://a:1', 'http://a:1/base']) assert.notEqual(id, target({ url }).id)
    assert.equal(target({ id: 'own' }).id, 'own')
    assert.ok(!('rejectUnauthorized' in tls))
    assert.equal(target({ rejectUnauthorized: false }).tls.rejectUnauthorized, false)
    assert.ok(!('rejectUnauthorized' in target({ rejectUnauthorized: true }).tls))
  })

  it('is full at maxConnections, and with one request without an outcome while it is on trial', () => {
    const full = (maxConnections: number, inflight: number, onTrial = false): boolean =>
      Object.assign(target({ maxConnections }), { inflight, pending: inflight, onTrial }).full
    assert.deepEqual([full(0, 1000), full(2, 1), full(2, 2), full(2, 3)], [false, false, true, true])
    assert.deepEqual([full(0, 0, true), full(0, 1, true), full(9, 1, true)], [false, true, true])
  })

  it('has connections of its own for requests that may be repeated, and for HTTP/2', async () => {
    const own = target()
    const pools = [own.pool(true), own.pool(false), own.pool(true, true), own.pool(false, true)]
    assert.equal(new Set(pools).size, 4)
    assert.equal(own.pool(true), pools[0])
    assert.equal(own.pool(false, false), pools[1])
    await own.disconnect()
    assert.ok(pools.every(({ closed }) => closed))
    assert.notEqual(own.pool(true), pools[0])
    await own.disconnect()
  })

  it('has connections with the limits of its balancer, and a certificate for its own name', async (t) => {
    const pools = t.mock.method(undici(), 'Pool').mock
    const connectors = t.mock.method(undici(), 'buildConnector').mock
    const limits = { connectTimeoutMs: 11, responseTimeoutMs: 22, bodyTimeoutMs: 33, keepAliveMs: 44 }
    const given = { url: 'https://a:1', serverName: 'b.example' }
    const own = new Target(given, { ...limits, unsafeKeepAliveMs: 55, maxHeaderBytes: 2_048 })
    for (const repeatable of [true, false]) own.pool(repeatable)
    const common = { headersTimeout: 22, bodyTimeout: 33, maxHeaderSize: 2_048, pipelining: 1 }
    for (const [i, ms] of [44, 55].entries()) {
      const { connect: _, ...options } = pools.calls[i]?.arguments[1] ?? {}
      assert.deepEqual(options, { ...common, keepAliveTimeout: ms, keepAliveMaxTimeout: ms, allowH2: false })
    }
    const connector: { timeout?: number | null; servername?: string } = connectors.calls[0]?.arguments[0] ?? {}
    assert.deepEqual([connector.timeout, connector.servername], [11, 'b.example'])
    await own.disconnect()
  })

  it('is checked', () => {
    for (const wrong of [
      ...[
        { weight: -1 },
        { weight: 1001 },
        { weight: 1.5 },
        { maxConnections: -1 },
        { ca: '' },
        { ca: [1] },
        { key: 1 },
      ],
      ...[{ id: '' }, { backup: 1 }, { http2: 'yes' }],
    ])
      assert.throws(() => target(wrong as never), { code: 'FLEET_ERR_OPTION_INVALID' }, JSON.stringify(wrong))
    target({ weight: 0, maxConnections: 1_000_000, ca: [Buffer.from('x'), 'y'], key: 'z' })
    target({ weight: 1000 })
  })
})
