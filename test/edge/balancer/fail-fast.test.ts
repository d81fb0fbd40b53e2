import assert from 'node:assert/strict'
import { after, describe, it, type TestContext } from 'node:test'
import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import { askLoad } from '../../../src/edge/balancer/load.ts'
import { createPolicy } from '../../../src/edge/balancer/policies/index.ts'
import { Target } from '../../../src/edge/balancer/target.ts'
import { until } from '../../helpers/until.ts'
import { quickProbe } from '../front.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'
import { balancerDefaults } from './stub.ts'
import { mockTime } from './virtual-time.ts'

const policies = ['round-robin', 'least-connections', 'least-response-time', 'prequal'] as const
type Name = (typeof policies)[number]

/** Responses, and how many of them failed. */
interface Seen {
  responses: number
  errors: number
}

/**
 * 200 requests per second at random intervals (Poisson) to ten targets, nine of which respond after 5 ms and the first at
 * once with 500. Simulates the whole balancer except for its sockets. Deterministic.
 *
 * @returns what clients received after the first second
 */
async function simulate(t: TestContext, name: Name, method: 'GET' | 'POST', responses: number): Promise<Seen> {
  const time = mockTime(t)
  // It reports the lowest load of all.
  const policy = createPolicy(name, balancerDefaults, async (target) => ({
    inflight: target.inflight,
    latencyMs: target.latency.at(time.now),
  }))
  const balancer = new Balancer(
    Array.from({ length: 10 }, (_, i) => `http://10.0.0.${i}:3000`),
    { policy, probe: { type: 'off' } },
  )
  const [bad] = balancer.targets
  const controller = { abort: () => assert.fail('no request is aborted') } as never
  t.mock.method(Target.prototype, 'send', function (this: Target, ...[, handler]: Parameters<Target['send']>) {
    handler.onRequestStart?.(controller, null)
    setTimeout(
      () => {
        handler.onResponseStart?.(controller, this === bad ? 500 : 200, {}, '')
        handler.onResponseEnd?.(controller, {})
      },
      this === bad ? 0 : 5,
    )
  })
  const seen: Seen = { responses: 0, errors: 0 }
  const handler = {
    onResponseStart: (_: unknown, status: number) => {
      if (time.now < 1000) return
      seen.responses++
      if (status !== 200) seen.errors++
    },
  }
  for (let due = 0; seen.responses < responses; due += -Math.log(1 - Math.random()) * 5) {
    while (time.now < due) time.tick()
    balancer.dispatch({ path: '/', method, body: method === 'POST' ? 'x' : null }, handler)
    // Load probes complete between requests.
    for (let turn = 0; turn < 3; turn++) await null
  }
  await balancer.close()
  return seen
}

describe('one of ten targets that fails at once', () => {
  for (const policy of policies) {
    it(`affects less than one request in a thousand after a second (${policy})`, async (t) => {
      const { responses, errors } = await simulate(t, policy, 'POST', 5000)
      assert.ok(errors < responses / 1000, `${errors} of ${responses}`)
    })

    it(`affects no retryable request (${policy})`, async (t) => {
      const { errors } = await simulate(t, policy, 'GET', 5000)
      assert.equal(errors, 0)
    })

    it(`affects one request in total, over real connections (${policy})`, async () => {
      const upstreams = await startUpstreams(10)
      for (const upstream of upstreams) upstream.handler = (_, response) => setTimeout(() => response.end('fine'), 2)
      const [bad] = upstreams as [Upstream]
      bad.handler = (_, response) => response.writeHead(500).end()
      // Short ejections, so that trial requests are counted too.
      const options = { policy, probe: { ...quickProbe, timeoutMs: 60_000 }, outliers: { ejectMs: 200 } }
      const balancer = new Balancer(
        upstreams.map(({ url }) => url),
        options,
      )
      after(() => balancer.close())
      await balancer.ready()
      const began = performance.now()
      let asking = true
      const first: Seen = { responses: 0, errors: 0 }
      const later: Seen = { responses: 0, errors: 0 }
      const client = async (): Promise<void> => {
        while (asking) {
          const { statusCode, body } = await balancer.request('/')
          await body.dump()
          const seen = performance.now() < began + 1000 || first.responses < 200 ? first : later
          seen.responses++
          if (statusCode !== 200) seen.errors++
        }
      }
      const clients = Array.from({ length: 8 }, client)
      await until(() => later.responses > 1000, { timeoutMs: 120_000 })
      asking = false
      await Promise.all(clients)
      assert.ok(bad.seen.length > 0)
      assert.ok(later.errors < later.responses / 1000, `${later.errors} of ${later.responses}`)
      // The request may be the cause, so one failed response is forwarded.
      assert.equal(first.errors + later.errors, 1)
    })
  }

  it('is not preferred for the low load that it reports', async () => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    upstream.handler = (_, response) => response.setHeader('x-fleet-load', 'inflight=3, latency=0.5').end()
    const target = new Target({ url: upstream.url }, balancerDefaults.connections)
    assert.deepEqual(await askLoad(target, '/'), { inflight: 3, latencyMs: 0.5 })
    target.failing = true
    target.latency.punish(performance.now())
    assert.ok((await askLoad(target, '/')).latencyMs > 0.5)
    await target.disconnect()
  })
})
