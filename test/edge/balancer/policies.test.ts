import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { policyNames } from '../../../src/edge/balancer/policies/index.ts'
import { LeastConnections } from '../../../src/edge/balancer/policies/least-connections.ts'
import { perList } from '../../../src/edge/balancer/policies/per-list.ts'
import { Random } from '../../../src/edge/balancer/policies/random.ts'
import { RoundRobin } from '../../../src/edge/balancer/policies/round-robin.ts'
import { Weighted } from '../../../src/edge/balancer/policies/weighted.ts'
import type { Target } from '../../../src/edge/balancer/target.ts'
import { liveObjects } from '../../helpers/live-objects.ts'
import { from, limit9, load, one } from './policy.ts'
import { chiSquare, permutations, stub, stubs, tally, tuples } from './stub.ts'

describe('every policy', () => {
  for (const name of policyNames) {
    it(`${name} picks from the given list, of any length, and follows changes of the list`, () => {
      const policy = one(name)
      const all = stubs(12)
      for (const count of [1, 2, 12, 5, 1, 3]) {
        const list = all.slice(-count)
        for (let i = 0; i < 50; i++) assert.ok(list.includes(policy.pick(list, from(`10.0.0.${i}`))))
      }
      policy.close?.()
    })

    it(`${name} spreads requests while all targets have weight 0, and after they have recovered`, () => {
      const policy = one(name)
      const targets = stubs(4)
      const spread = (weights: readonly number[], expected: readonly Target[]): void => {
        targets.forEach((target, i) => {
          target.weight = weights[i] as number
        })
        const list = [...targets]
        let client = 0
        const counts = tally(400, () => policy.pick(list, from(`10.${client % 7}.${client++ % 251}.1`)))
        for (const target of expected) {
          const count = counts.get(target) ?? 0
          assert.ok(count > 50, `weights ${weights}: ${target.id} has ${count} of 400`)
        }
      }
      spread([0, 0, 0, 0], targets)
      spread([0, 0, 100, 100], targets.slice(2))
      spread([0, 0, 0, 0], targets)
      spread([100, 100, 100, 100], targets)
      policy.close?.()
    })
  }
})

describe('round-robin', () => {
  it('picks the targets in order', () => {
    const targets = stubs(3)
    const policy = new RoundRobin()
    const picked = Array.from({ length: 6 }, () => policy.pick(targets))
    assert.deepEqual(picked, [...targets, ...targets])
  })
})

describe('weighted', () => {
  it('picks each target exactly by its weight per round, for all weights of small sets', () => {
    for (const weights of tuples([1, 2, 3, 5], 4)) {
      const targets = weights.map((weight, i) => stub(i, { weight }))
      const policy = new Weighted()
      const total = weights.reduce((a, b) => a + b)
      for (let round = 0; round < 3; round++) {
        const counts = tally(total, () => policy.pick(targets))
        assert.deepEqual(
          targets.map((target) => counts.get(target)),
          weights,
        )
      }
    }
  })

  it('is smooth: no target is ever two requests away from its share', () => {
    for (const weights of permutations([50, 7, 3, 1])) {
      const targets = weights.map((weight, i) => stub(i, { weight }))
      const policy = new Weighted()
      const counts = new Map<Target, number>()
      for (let n = 1; n <= 122; n++) {
        const target = policy.pick(targets)
        counts.set(target, (counts.get(target) ?? 0) + 1)
        for (const { weight } of targets) {
          const count = counts.get(targets.find((t) => t.weight === weight) as Target) ?? 0
          assert.ok(Math.abs(count - (n * weight) / 61) < 2, `${weights} after ${n}: ${weight} has ${count}`)
        }
      }
    }
  })

  it('gives a returning target its share, without the turns it missed', () => {
    const [a, b] = stubs(2) as [Target, Target]
    const policy = new Weighted()
    const both = [a, b]
    const alone = [a]
    for (let i = 0; i < 10; i++) policy.pick(both)
    for (let i = 0; i < 1000; i++) policy.pick(alone)
    const counts = tally(10, () => policy.pick([a, b]))
    assert.ok((counts.get(b) ?? 0) <= 6, `${counts.get(b)} of 10`)
  })

  it('gives a target whose weight was raised its new share at once', () => {
    const [a, b] = [stub(0, { weight: 1 }), stub(1, { weight: 100 })]
    const policy = new Weighted()
    const before = [a, b]
    // Its next turn by the old weight is far away.
    for (let i = 0; i < 200 && policy.pick(before) !== a; i++);
    a.weight = 100
    const after = [a, b]
    const counts = tally(10, () => policy.pick(after))
    assert.ok((counts.get(a) ?? 0) >= 4, `${counts.get(a)} of 10`)
  })
})

describe('least-connections', () => {
  it('picks a least loaded target in every reachable state of small sets', () => {
    for (const weights of [
      [1, 1, 1, 1],
      [1, 2, 1, 4],
    ]) {
      const targets = weights.map((weight, i) => stub(i, { weight }))
      const moved = new LeastConnections()
      moved.pick(targets)
      for (const loads of tuples([0, 1, 2, 5], 4)) {
        load(moved, targets, loads)
        const least = Math.min(...targets.map((t) => t.inflight / t.weight))
        for (const policy of [moved, new LeastConnections()]) {
          const target = policy.pick(targets)
          assert.equal(target.inflight / target.weight, least, `loads ${loads}`)
        }
      }
    }
  })

  it('alternates between targets of equal load, by weight', () => {
    const targets = [stub(0, { weight: 3 }), stub(1, { weight: 1 })]
    const policy = new LeastConnections()
    const counts = tally(400, () => policy.pick(targets))
    assert.deepEqual(
      targets.map((target) => counts.get(target)),
      [300, 100],
    )
  })

  it('stays correct over a long random sequence of starts and ends', () => {
    const targets = stubs(50)
    const policy = new LeastConnections()
    const open: Target[] = []
    for (let i = 0; i < 5000; i++) {
      if (open.length > 0 && Math.random() < 0.45) {
        const [target] = open.splice(Math.floor(Math.random() * open.length), 1) as [Target]
        target.inflight--
        policy.loaded(target)
      } else {
        const target = policy.pick(targets)
        assert.equal(target.inflight, Math.min(...targets.map((t) => t.inflight)))
        target.inflight++
        policy.loaded(target)
        open.push(target)
      }
    }
  })
})

describe('random', () => {
  it('is uniform for equal weights and proportional for others', () => {
    for (const weights of [Array(10).fill(7), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [1000, 1, 1, 1, 1, 1, 1, 1, 1, 1]]) {
      const targets = weights.map((weight, i) => stub(i, { weight }))
      const policy = new Random()
      const counts = tally(50_000, () => policy.pick(targets))
      const total = weights.reduce((a, b) => a + b)
      const observed = targets.map((target) => counts.get(target) ?? 0)
      assert.ok(
        chiSquare(
          observed,
          weights.map((w) => (w / total) * 50_000),
        ) < limit9,
        String(observed),
      )
    }
  })
})

it('what a policy derives from a list is kept as long as the list is in use', () => {
  class List extends Array<Target> {}
  let derived = 0
  const orderOf = perList(() => ++derived)
  const lists = [new List(), new List()]
  for (let i = 0; i < 2; i++) assert.deepEqual(lists.map(orderOf), [1, 2])
  for (let i = 0; i < 50; i++) assert.equal(orderOf(new List()), i + 3)
  assert.ok(liveObjects(List) <= 7, `${liveObjects(List)} lists`)
})
