import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { measure } from '../../../src/cli/bench/measure.ts'
import type { Connection, Target, TargetResponse } from '../../../src/cli/target.ts'
import { requestClock, response } from '../fleet-test/stand-ins.ts'

/** A target whose nth response, from 0, the test decides. */
function targetOf(respond: (n: number) => Partial<TargetResponse> | Promise<Partial<TargetResponse>>) {
  const asked: string[] = []
  let [open, closed] = [0, 0]
  const connect = (): Connection => {
    open++
    return {
      request: async (path) => response(await respond(asked.push(path) - 1)),
      close: async () => void closed++,
    }
  }
  return { target: { url: 'http://front', connect } as unknown as Target, asked, connections: () => [open, closed] }
}

describe('a measurement', () => {
  it('has the rate and the latencies of successful responses, the failures, and the same for each instance', async (t) => {
    const next = requestClock(t, 1)
    t.mock.timers.enable({ apis: ['setInterval'] })
    // Half of the time before the measurement, and a tenth of it since.
    t.mock.method(performance, 'eventLoopUtilization', (since?: { idle: number }) => ({
      ...{ idle: asked.length, active: 0 },
      utilization: since?.idle === 50 ? 0.1 : 0.5,
    }))
    const left: number[] = []
    const { target, asked, connections } = targetOf((n) => {
      next()
      if (n === 89) t.mock.timers.tick(250)
      const instanceId = n % 2 === 0 ? 'api-10' : 'api-2'
      return { instanceId, ms: n - 49, status: n % 10 === 9 ? 503 : 200 }
    })
    const options = { path: '/x', connections: 1, seconds: 0.1, warmUpSeconds: 0.05 }
    const { ownUtilization, ...report } = await measure(target, options, (seconds) => left.push(seconds))
    assert.equal(ownUtilization, 0.1)
    t.mock.timers.tick(250)
    assert.deepEqual(
      left.map((seconds) => seconds.toFixed(3)),
      ['0.060'],
      'of 0.1 s after 40 ms, and not after the end',
    )
    assert.deepEqual([asked.length, new Set(asked), connections()], [150, new Set(['/x']), [1, 1]])
    // Those of the warm-up do not count: the others took 1 to 100 ms, and each tenth failed.
    const all = { requests: 100, failed: 10, rate: 900, p50: 49, p95: 95, p99: 99, max: 99 }
    assert.deepEqual(report, {
      ...{ url: 'http://front', path: '/x', connections: 1, seconds: 0.1, errors: { 503: 10 } },
      ...all,
      instances: [
        { instance: 'api-2', requests: 50, failed: 10, rate: 400, p50: 48, p95: 94, p99: 98, max: 98 },
        { instance: 'api-10', requests: 50, failed: 0, rate: 500, p50: 49, p95: 95, p99: 99, max: 99 },
      ],
    })
  })

  it('names errors of the transport, and an instance that is unknown', async (t) => {
    const next = requestClock(t, 1)
    const { target } = targetOf((n) => {
      next()
      return n === 1 ? { status: 0, error: 'ECONNRESET' } : { status: 204 }
    })
    const options = { path: '/', connections: 3, seconds: 0.003, warmUpSeconds: 0 }
    const { errors, requests, instances } = await measure(target, options, () => assert.fail())
    assert.deepEqual([errors, requests, instances.map(({ instance }) => instance)], [{ ECONNRESET: 1 }, 3, ['-']])
  })

  it('with a rate sends as many requests, and measures each from the time when it was due', async (t) => {
    // The time to the next request is then its mean.
    t.mock.method(Math, 'random', () => 1 - 1 / Math.E)
    // Each look at the clock takes a millisecond, so that a timer that is early or late does not count.
    let now = 0
    t.mock.method(performance, 'now', () => ++now)
    const { target } = targetOf(() => ({}))
    const options = { path: '/', connections: 20, seconds: 0.2, warmUpSeconds: 0, rate: 100 }
    const { requests, failed, p50 } = await measure(target, options, () => {})
    assert.deepEqual([requests, failed], [20, 0])
    assert.ok(p50 > 0, 'none is sent before it is due')
    const slow = targetOf(async () => {
      for (const end = now + 400; performance.now() < end; ) await sleep(1)
      return {}
    })
    const late = await measure(slow.target, { ...options, connections: 1 }, () => {})
    assert.deepEqual([late.requests, late.errors, slow.asked.length], [20, { 'no connection was free': 19 }, 1])
    assert.ok(late.max >= 400 && late.max < 60_000, String(late.max))
    // The first request takes half of the time of this process, in which others are due.
    const busy = targetOf((n) => {
      if (n === 0) now += 100
      return {}
    })
    const { p95 } = await measure(busy.target, options, () => {})
    assert.ok(p95 >= 80, String(p95))
  })
})
