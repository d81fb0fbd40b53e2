import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it } from 'node:test'
import { createPolicy, type PickInput, type Policy, policyNames } from '../../../src/edge/balancer/policies/index.ts'
import { RoundRobin } from '../../../src/edge/balancer/policies/round-robin.ts'
import { Rotation } from '../../../src/edge/balancer/rotation.ts'
import type { Target, TargetState } from '../../../src/edge/balancer/target.ts'
import { balancerDefaults, stub, stubs, tally, tuples } from './stub.ts'
import { mockChance } from './virtual-time.ts'

const noClient: PickInput = { client: '', headers: {} }
const options = { slowStartMs: 0, panicThreshold: 0, canaryPercent: 0 }

/** Records the lists that it receives. */
class Watcher implements Policy {
  lists: (readonly Target[])[] = []
  pick(targets: readonly Target[]): Target {
    this.lists.push(targets)
    return targets[0] as Target
  }
}

function rotate(
  targets: readonly Target[],
  states: readonly TargetState[],
  policy: Policy = new RoundRobin(),
): Rotation {
  const rotation = new Rotation(policy, options)
  targets.forEach((target, i) => {
    target.state = 'unproven'
    rotation.add(target)
    rotation.move(target, states[i] as TargetState)
  })
  return rotation
}

describe('a rotation', () => {
  it('passes only the best list to the policy, in every combination of states', () => {
    const states = ['unproven', 'up', 'draining', 'down', 'ejected'] as const
    for (const combination of tuples(states, 3)) {
      const targets = stubs(3)
      const policy = new Watcher()
      const rotation = rotate(targets, combination, policy)
      rotation.choose(noClient, [])
      const best = combination.includes('up') ? ['up'] : combination.includes('draining') ? ['draining'] : states
      const expected = targets.filter(({ state }) => (best as string[]).includes(state))
      assert.deepEqual(policy.lists[0], expected, String(combination))
      assert.equal(rotation.up, combination.filter((state) => state === 'up').length)
    }
  })

  it('passes the same list to the policy until something changes, then a new one', () => {
    const targets = stubs(3)
    const policy = new Watcher()
    const rotation = rotate(targets, ['up', 'up', 'up'], policy)
    rotation.choose(noClient, [])
    rotation.choose(noClient, [])
    rotation.move(targets[1] as Target, 'down')
    rotation.choose(noClient, [])
    rotation.reweigh(targets[0] as Target, 7)
    rotation.choose(noClient, [])
    const [a, b, c, d] = policy.lists
    assert.equal(a, b)
    assert.notEqual(b, c)
    assert.notEqual(c, d)
    assert.deepEqual(c, [targets[0], targets[2]])
  })

  it('uses backups only when no primary target can accept a request', () => {
    const [a, b] = [...stubs(1), ...stubs(2, { backup: true }).slice(1)] as [Target, Target]
    const rotation = rotate([a, b], ['up', 'up'])
    assert.equal(tally(10, () => rotation.choose(noClient, []) as Target).get(b), undefined)
    assert.equal(rotation.choose(noClient, [a]), b)
    rotation.move(a, 'down')
    assert.equal(rotation.choose(noClient, []), b)
  })

  it('skips tried targets, full targets and targets of weight 0', () => {
    const targets = stubs(4, { maxConnections: 1 })
    const [a, b, c, d] = targets as [Target, Target, Target, Target]
    const rotation = rotate(targets, ['up', 'up', 'up', 'up'])
    rotation.begin(b)
    rotation.reweigh(c, 0)
    for (let i = 0; i < 20; i++) assert.equal(rotation.choose(noClient, [a]), d)
    rotation.begin(d)
    assert.equal(rotation.choose(noClient, [a]), undefined)
    rotation.end(b)
    assert.equal(rotation.choose(noClient, [a]), b)
  })

  it('knows whether another target is available', () => {
    const targets = stubs(3)
    const [a, b, c] = targets as [Target, Target, Target]
    const rotation = rotate(targets, ['up', 'up', 'draining'])
    assert.equal(rotation.hasOther([]), true)
    assert.equal(rotation.hasOther([a]), true)
    assert.equal(rotation.hasOther([c]), true)
    assert.equal(rotation.hasOther([a, b]), false)
    rotation.move(a, 'down')
    assert.equal(rotation.hasOther([b]), false)
  })

  it('ignores health below the panic threshold', () => {
    const targets = stubs(4)
    const policy = new Watcher()
    const rotation = new Rotation(policy, { slowStartMs: 0, panicThreshold: 0.5, canaryPercent: 0 })
    for (const target of targets) {
      target.state = 'unproven'
      rotation.add(target)
    }
    const seen = (): number => {
      rotation.choose(noClient, [])
      return policy.lists.at(-1)?.length ?? 0
    }
    const [a, b, c] = targets as [Target, Target, Target]
    rotation.move(a, 'up')
    assert.equal(seen(), 4)
    rotation.move(b, 'up')
    assert.equal(seen(), 2)
    rotation.move(c, 'draining')
    assert.equal(seen(), 2)
    rotation.move(b, 'down')
    assert.equal(seen(), 3)
  })

  it('never picks a target of weight 0 below the panic threshold, with any policy', () => {
    for (const policy of policyNames.filter((name) => name !== 'sticky-cookie')) {
      const targets = stubs(4)
      const [a, b, c] = targets as [Target, Target, Target, Target]
      const probe = async () => ({ inflight: 0, latencyMs: 1 })
      const rotation = new Rotation(createPolicy(policy, balancerDefaults, probe), { ...options, panicThreshold: 1 })
      for (const target of targets) rotation.add(target)
      rotation.move(b, 'down')
      rotation.reweigh(a, 0)
      rotation.reweigh(c, 0)
      const picked = tally(200, (i) => rotation.choose({ client: `10.0.0.${i}`, headers: {} }, []) as Target)
      assert.deepEqual(
        [a, c].map((target) => picked.get(target)),
        [undefined, undefined],
        policy,
      )
      assert.ok((picked.get(b) ?? 0) > 0, policy)
    }
  })

  it('picks a target of weight 0 only when no other can take the request', () => {
    for (const panicThreshold of [0, 0.5]) {
      const [a, b] = stubs(2) as [Target, Target]
      const rotation = new Rotation(new RoundRobin(), { ...options, panicThreshold })
      for (const target of [a, b]) rotation.add(target)
      rotation.reweigh(a, 0)
      rotation.move(b, 'down')
      for (let i = 0; i < 20; i++) assert.equal(rotation.choose(noClient, []), b)
      assert.equal(rotation.choose(noClient, [b]), a)
    }
  })

  it('counts only targets with a weight for the panic threshold', () => {
    const [a, b, c] = stubs(3) as [Target, Target, Target]
    const policy = new Watcher()
    const rotation = new Rotation(policy, { ...options, panicThreshold: 0.6 })
    for (const target of [a, b, c]) rotation.add(target)
    rotation.reweigh(b, 0)
    rotation.move(b, 'down')
    rotation.reweigh(c, 0)
    rotation.choose(noClient, [])
    assert.deepEqual(policy.lists.at(-1), [a])
  })

  it('sends its share of clients to the canaries, always the same ones', () => {
    const targets = [...stubs(3), stub(9, { canary: true })]
    const canary = targets[3] as Target
    const rotation = new Rotation(new RoundRobin(), { ...options, canaryPercent: 20 })
    for (const target of targets) rotation.add(target)
    const clients = Array.from(
      { length: 2000 },
      (_, i): PickInput => ({ client: `10.1.${i >> 8}.${i & 255}`, headers: {} }),
    )
    const chosen = (): PickInput[] => clients.filter((client) => rotation.choose(client, []) === canary)
    const first = chosen()
    assert.ok(Math.abs(first.length - 400) < 80, `${first.length} of 2000`)
    assert.deepEqual(chosen(), first)
    const [client] = first as [PickInput]
    const other = clients.find((each) => !first.includes(each)) as PickInput
    const choice = (cookie: string): object => ({ headers: { cookie: `a=b; fleet_canary=${cookie}` } })
    assert.notEqual(rotation.choose({ ...client, ...choice('never') }, []), canary)
    assert.equal(rotation.choose({ ...other, ...choice('always') }, []), canary)
    rotation.canaryPercent = 0
    assert.equal(chosen().length, 0)
    assert.equal(rotation.up, 3)
    rotation.canaryPercent = 100
    assert.equal(chosen().length, 2000)
  })

  it('lets each side of a canary take over while the other has no target', () => {
    const [stable] = stubs(1) as [Target]
    const canary = stub(9, { canary: true })
    const rotation = new Rotation(new RoundRobin(), { ...options, canaryPercent: 100 })
    for (const target of [stable, canary]) rotation.add(target)
    assert.equal(rotation.choose(noClient, [canary]), stable)
    rotation.move(canary, 'down')
    assert.equal(rotation.choose(noClient, []), stable)
    rotation.move(canary, 'up')
    rotation.canaryPercent = 1e-9
    rotation.move(stable, 'down')
    assert.equal(rotation.choose(noClient, []), canary)
    rotation.canaryPercent = 0
    assert.equal(rotation.choose(noClient, []), stable)
  })

  it('applies slow start to a target that returns among others, not to one that returns alone', (t) => {
    t.mock.method(performance, 'now', () => 1)
    mockChance(t)
    const [a, b] = stubs(2) as [Target, Target]
    const rotation = new Rotation(new RoundRobin(), { slowStartMs: 60_000, panicThreshold: 0, canaryPercent: 0 })
    for (const target of [a, b]) {
      target.state = 'unproven'
      rotation.add(target)
      rotation.move(target, 'up')
    }
    assert.equal(a.warmFrom, undefined)
    const cold = tally(2000, () => rotation.choose(noClient, []) as Target).get(b) ?? 0
    assert.ok(cold > 20 && cold < 400, `${cold} of 2000 while cold`)
    b.warmFrom = (b.warmFrom as number) - 60_000
    const warm = tally(2000, () => rotation.choose(noClient, []) as Target).get(b) ?? 0
    assert.ok(Math.abs(warm - 1000) <= 2, `${warm} of 2000 when warm`)
  })

  it('records since when no target is up', () => {
    const [a] = stubs(1) as [Target]
    const rotation = rotate([a], ['up'])
    assert.equal(rotation.lostAt, undefined)
    rotation.move(a, 'down')
    const since = rotation.lostAt
    assert.ok(since)
    rotation.move(a, 'draining')
    assert.equal(rotation.lostAt, since)
  })
})
