import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import { createPolicy, type PolicyName } from '../../../src/edge/balancer/policies/index.ts'
import { Rotation } from '../../../src/edge/balancer/rotation.ts'
import type { Target } from '../../../src/edge/balancer/target.ts'
import { balancerDefaults, stubs } from './stub.ts'
import { mockChance } from './virtual-time.ts'

/** Requests per millisecond, at random intervals (Poisson). */
const rate = 0.2
const warmUp = 2000
const counted = 20_000

/**
 * Simulates ten servers that process one request at a time in virtual time: measures the policy without the machine.
 * Deterministic.
 *
 * @param slowMs how long the last one takes; the others take 5 ms
 */
async function simulate(t: TestContext, name: PolicyName, slowMs: number): Promise<{ p99: number; share: number }> {
  let now = 0
  t.mock.method(performance, 'now', () => now)
  mockChance(t)
  const policy = createPolicy(name, balancerDefaults, async (target) => ({
    inflight: target.inflight,
    latencyMs: target.latency.at(now),
  }))
  const rotation = new Rotation(policy, { slowStartMs: 0, panicThreshold: 0, canaryPercent: 0 })
  const targets = stubs(10)
  for (const target of targets) rotation.add(target)
  const slow = targets[9] as Target
  const freeAt = new Map(targets.map((target) => [target, 0]))
  /** Requests in service, the next to end first. */
  const running: { target: Target; began: number; ends: number }[] = []
  const times: number[] = []
  let toSlow = 0
  let arrival = 0
  for (let i = 0; i < warmUp + counted; i++) {
    arrival += -Math.log(1 - Math.random()) / rate
    for (let next = running[0]; next && next.ends <= arrival; next = running[0]) {
      running.shift()
      now = next.ends
      next.target.latency.observe(next.ends - next.began, now)
      rotation.end(next.target)
    }
    now = arrival
    const target = rotation.choose({ client: '', headers: {} }, []) as Target
    rotation.begin(target)
    const ends = Math.max(now, freeAt.get(target) ?? 0) + (target === slow ? slowMs : 5)
    freeAt.set(target, ends)
    const place = running.findIndex((other) => other.ends > ends)
    running.splice(place < 0 ? running.length : place, 0, { target, began: now, ends })
    if (i >= warmUp) {
      times.push(ends - now)
      if (target === slow) toSlow++
    }
    // Load probes complete between requests.
    for (let turn = 0; turn < 3; turn++) await null
  }
  policy.close?.()
  t.mock.restoreAll()
  times.sort((a, b) => a - b)
  return { p99: times[Math.ceil(counted * 0.99) - 1] as number, share: toSlow / counted }
}

describe('one of ten targets that is ten times slower', () => {
  for (const policy of ['least-response-time', 'prequal'] as const) {
    it(`receives hardly any requests, and clients do not notice it (${policy})`, async (t) => {
      const calm = await simulate(t, policy, 5)
      const slow = await simulate(t, policy, 50)
      assert.ok(slow.share <= 0.01, `${slow.share * 100} % to the slow one`)
      assert.ok(slow.p99 <= calm.p99 * 1.2, `p99 ${slow.p99} instead of ${calm.p99}`)
    })
  }

  it('receives an equal share with round-robin, which clients notice', async (t) => {
    const { share, p99 } = await simulate(t, 'round-robin', 50)
    assert.ok(Math.abs(share - 0.1) < 0.001)
    assert.ok(p99 > 100)
  })
})
