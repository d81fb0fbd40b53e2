import assert from 'node:assert/strict'
import { after, describe, it, type TestContext } from 'node:test'
import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import { askLoad } from '../../../src/edge/balancer/load.ts'
import { balancerDefaults } from '../../../src/edge/balancer/options.ts'
import { createPolicy } from '../../../src/edge/balancer/policies/index.ts'
import { Target } from '../../../src/edge/balancer/target.ts'
import { until } from '../../helpers/until.ts'
import { quickProbe } from '../front.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'
import { mockTime } from './virtual-time.ts'

const policies = ['round-robin', 'least-connections', 'least-response-time', 'prequal'] as const
type Name = (typeof policies)[number]

/** Answers, and how many of them were failures. */
interface Seen {
  answers: number
  errors: number
}

/**
 * Clients that ask 200 times per second at random distances (Poisson), ten targets that answer after 5 ms, the first one
 * of them at once, and with 500: the whole balancer but for its sockets. The same every time.
 *
 * @returns what clients saw after the first second
 */
async function simulate(t: TestContext, name: Name, method: 'GET' | 'POST', answers: number): Promise<Seen> {
  const time = mockTime(t)
  // What it says of itself is best of all.
  const policy = createPolicy(name, balancerDefaults, async (target) => ({
    inflight: target.inflight,
    latencyMs: target.latency.at(time.now),
  }))
  const balancer = new Balancer(
    Array.from({ length: 10 }, (_, i) => `http://10.0.0.${i}:3000`),
    { policy, probe: { type: 'off' } },
  )
  const [bad] = balancer.targets
  const controller = { abort: () => assert.fail('nobody gives up') } as never
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
  const seen: Seen = { answers: 0, errors: 0 }
  const handler = {
    onResponseStart: (_: unknown, status: number) => {
      if (time.now < 1000) return
      seen.answers++
      if (status !== 200) seen.errors++
    },
  }
  for (let due = 0; seen.answers < answers; due += -Math.log(1 - Math.random()) * 5) {
    while (time.now < due) time.tick()
    balancer.dispatch({ path: '/', method, body: method === 'POST' ? 'x' : null }, handler)
    // Answers about load come between requests.
    for (let turn = 0; turn < 3; turn++) await null
  }
  await balancer.close()
  return seen
}

describe('one of ten that fails at once', () => {
  for (const policy of policies) {
    it(`is seen by less than one request in a thousand after a second (${policy})`, async (t) => {
      const { answers, errors } = await simulate(t, policy, 'POST', 5000)
      assert.ok(errors < answers / 1000, `${errors} of ${answers}`)
    })

    it(`is seen by no request that may be repeated (${policy})`, async (t) => {
      const { errors } = await simulate(t, policy, 'GET', 5000)
      assert.equal(errors, 0)
    })

    it(`is seen by one request at all, over real connections (${policy})`, async () => {
      const upstreams = await startUpstreams(10)
      for (const upstream of upstreams) upstream.handler = (_, response) => setTimeout(() => response.end('fine'), 2)
      const [bad] = upstreams as [Upstream]
      bad.handler = (_, response) => response.writeHead(500).end()
      // Short ejections, so that trials are among what is counted.
      const options = { policy, probe: { ...quickProbe, timeoutMs: 60_000 }, outliers: { ejectMs: 200 } }
      const balancer = new Balancer(
        upstreams.map(({ url }) => url),
        options,
      )
      after(() => balancer.close())
      await balancer.ready()
      const began = performance.now()
      let asking = true
      const first: Seen = { answers: 0, errors: 0 }
      const later: Seen = { answers: 0, errors: 0 }
      const client = async (): Promise<void> => {
        while (asking) {
          const { statusCode, body } = await balancer.request('/')
          await body.dump()
          const seen = performance.now() < began + 1000 || first.answers < 200 ? first : later
          seen.answers++
          if (statusCode !== 200) seen.errors++
        }
      }
      const clients = Array.from({ length: 8 }, client)
      await until(() => later.answers > 1000, { timeoutMs: 120_000 })
      asking = false
      await Promise.all(clients)
      assert.ok(bad.seen.length > 0)
      assert.ok(later.errors < later.answers / 1000, `${later.errors} of ${later.answers}`)
      // The request may be the cause, so one answer is passed on.
      assert.equal(first.errors + later.errors, 1)
    })
  }

  it('is not believed when it says how idle and fast it is', async () => {
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
