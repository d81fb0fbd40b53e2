import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import type { PickInput, Policy } from '../../../src/edge/balancer/policies/index.ts'
import { RoundRobin } from '../../../src/edge/balancer/policies/round-robin.ts'
import { Rotation } from '../../../src/edge/balancer/rotation.ts'
import type { Target, TargetOptions, TargetState } from '../../../src/edge/balancer/target.ts'
import { stub, stubs } from './stub.ts'

const noClient: PickInput = { client: '', headers: {} }
const options = { slowStartMs: 0, panicThreshold: 0, canaryPercent: 0 }

function rotationOf(
  targets: readonly Target[],
  given: Partial<typeof options> = {},
  policy: Policy = new RoundRobin(),
) {
  const rotation = new Rotation(policy, { ...options, ...given })
  for (const target of targets) rotation.add(target)
  return rotation
}

/** The clock and `Math.random`, which stand still until the test sets them. */
function still(t: TestContext): { now: number; random: number } {
  const set = { now: 1000, random: 0 }
  t.mock.method(performance, 'now', () => set.now)
  t.mock.method(Math, 'random', () => set.random)
  return set
}

describe('a change of a state', () => {
  it('is reported once, with the state before, and sets its time', (t) => {
    const clock = still(t)
    const [a] = stubs(2) as [Target]
    const rotation = rotationOf([a])
    const heard: unknown[] = []
    rotation.onState((target, before) => heard.push([target, before, target.state, rotation.up]))
    clock.now = 2000
    rotation.move(a, 'up')
    assert.deepEqual(heard, [])
    rotation.move(a, 'down')
    assert.deepEqual([heard, a.since], [[[a, 'up', 'down', 0]], 2000])
    clock.now = 3000
    rotation.move(a, 'down')
    assert.deepEqual([heard.length, a.since], [1, 2000])
  })

  it('of a target that was removed or never added has no effect', () => {
    const [a, b] = stubs(2) as [Target, Target]
    const rotation = rotationOf([a])
    rotation.remove(a)
    assert.deepEqual([rotation.targets, rotation.up, rotation.choose(noClient, [])], [[], 0, undefined])
    for (const target of [a, b]) rotation.move(target, 'down')
    assert.deepEqual([a.state, b.state], ['up', 'up'])
  })

  it('sets since when no target is up, from the start until one is', (t) => {
    const clock = still(t)
    const [a, b] = stubs(2) as [Target, Target]
    const rotation = rotationOf([])
    assert.equal(rotation.lostAt, 1000)
    clock.now = 2000
    rotation.add(a)
    rotation.add(b)
    assert.equal(rotation.lostAt, undefined)
    rotation.move(a, 'down')
    assert.equal(rotation.lostAt, undefined)
    rotation.reweigh(b, 0)
    assert.equal(rotation.lostAt, 2000)
    clock.now = 3000
    rotation.remove(a)
    assert.equal(rotation.lostAt, 2000)
  })
})

describe('the targets in use', () => {
  const order = (rotation: Rotation, targets: readonly Target[]): number[] => {
    const tried: Target[] = []
    for (let next = rotation.choose(noClient, tried); next; next = rotation.choose(noClient, tried)) tried.push(next)
    return tried.map((target) => targets.indexOf(target))
  }
  const make = (...given: [TargetState, Partial<TargetOptions>?][]): Target[] =>
    given.map(([state, each], i) => Object.assign(stub(i, each), { state }))

  it('are primaries, then backups, then canaries, and no others while one is up', (t) => {
    still(t).random = 0.5
    const targets = make(
      ['up', { canary: true }],
      ['up', { backup: true }],
      ['down'],
      ['draining'],
      ['up', { weight: 0 }],
      ['up'],
    )
    const rotation = rotationOf(targets, { canaryPercent: 10 })
    assert.deepEqual(order(rotation, targets), [5, 1, 0])
    assert.equal(rotation.up, 3)
  })

  it('are draining ones, then those with a weight, then those without, when none is up', (t) => {
    still(t)
    const targets = make(['down', { weight: 0 }], ['ejected'], ['draining'])
    assert.deepEqual(order(rotationOf(targets), targets), [2, 1, 0])
  })

  it('are untried in any list as long as one is neither tried nor full', () => {
    const [a, b] = stubs(2, { maxConnections: 1 }) as [Target, Target]
    const rotation = rotationOf([a, b])
    assert.deepEqual(
      [rotation.hasUntried([]), rotation.hasUntried([a]), rotation.hasUntried([a, b])],
      [true, true, false],
    )
    rotation.begin(b)
    assert.equal(rotation.hasUntried([a]), false)
    rotation.end(b)
    for (const target of [a, b]) rotation.move(target, 'down')
    assert.equal(rotation.hasUntried([a]), true)
    assert.equal(rotation.hasOther([]), false)
    const [primary, backup] = make(['up'], ['up', { backup: true }]) as [Target, Target]
    assert.equal(rotationOf([primary, backup]).hasUntried([primary]), true, 'a backup')
  })

  it('are the only ones that count as another target', () => {
    const targets = make(['up'], ['up', { canary: true }], ['up', { weight: 0 }], ['up'])
    const rotation = rotationOf(targets)
    const [a, canary, resting, b] = targets as [Target, Target, Target, Target]
    assert.equal(rotation.hasOther([canary, resting, a]), true)
    assert.equal(rotation.hasOther([a, b]), false)
  })

  it('exclude canaries from what is up and from panic while their percentage is 0', (t) => {
    still(t)
    const targets = make(['up', { canary: true }], ['down'])
    const rotation = rotationOf(targets)
    assert.deepEqual([rotation.up, rotation.choose(noClient, [])], [0, targets[1]])
    rotation.canaryPercent = 1
    assert.deepEqual([rotation.up, rotation.canaryPercent], [1, 1])
    assert.equal(rotation.choose(noClient, []), targets[0])
  })

  for (const [percent, up, panics] of [
    [0.5, 2, false],
    [0.51, 2, true],
    [0.5, 1, true],
    [0.25, 1, false],
    [1, 3, true],
    [1, 4, false],
  ] as const) {
    it(`are ${panics ? 'all' : 'those up'} with ${up} of 4 up and panicThreshold ${percent}`, (t) => {
      still(t)
      const targets = make(...Array.from({ length: 4 }, (_, i): [TargetState] => [i < up ? 'up' : 'down']))
      assert.equal(order(rotationOf(targets, { panicThreshold: percent }), targets).length, panics ? 4 : up)
    })
  }

  it('are those up when enough of the targets with a weight are', (t) => {
    still(t)
    const targets = make(['up'], ['down'], ['down', { weight: 0 }], ['down', { weight: 0 }])
    assert.deepEqual(order(rotationOf(targets, { panicThreshold: 0.5 }), targets), [0])
  })

  it('give canaries no share of their own in a panic', (t) => {
    still(t)
    const targets = make(['up', { canary: true }], ['down'], ['down'])
    const rotation = rotationOf(targets, { panicThreshold: 1, canaryPercent: 100 })
    assert.equal(new Set(Array.from({ length: 9 }, () => rotation.choose(noClient, []))).size, 3)
  })

  it('include one that the policy never picks, after three picks', (t) => {
    still(t)
    const [a, b] = stubs(2) as [Target, Target]
    let picks = 0
    const stubborn = {
      pick: () => {
        picks++
        return a
      },
    }
    assert.equal(rotationOf([a, b], {}, stubborn).choose(noClient, [a]), b)
    assert.equal(picks, 3)
  })

  it('leave another one to try when a tried one is not up', () => {
    const [a, b, c] = stubs(3) as [Target, Target, Target]
    const rotation = rotationOf([a, b, c])
    rotation.move(c, 'draining')
    assert.deepEqual([rotation.hasOther([a, c]), rotation.hasOther([a, b, c])], [true, false])
  })

  it('are the same list until a weight changes', () => {
    const [a, b] = stubs(2) as [Target, Target]
    const lists: (readonly Target[])[] = []
    const pick = (list: readonly Target[]): Target => {
      lists.push(list)
      return list[0] as Target
    }
    const rotation = rotationOf([a, b], {}, { pick })
    for (const weight of [100, 100, 99]) {
      rotation.reweigh(a, weight)
      rotation.choose(noClient, [])
    }
    assert.deepEqual([lists[0] === lists[1], lists[1] === lists[2]], [true, false])
  })

  it('are reported to the policy when a request begins and ends', () => {
    const [a] = stubs(1) as [Target]
    const loads: number[] = []
    const policy: Policy = { pick: () => a, loaded: (target) => void loads.push(target.inflight) }
    const rotation = rotationOf([a], {}, policy)
    rotation.begin(a)
    rotation.begin(a)
    rotation.end(a)
    assert.deepEqual(loads, [1, 2, 1])
  })
})

describe('slow start', () => {
  const warming = (given: Partial<Policy> = {}) => {
    const [a, b] = stubs(2) as [Target, Target]
    const rotation = rotationOf([a, b], { slowStartMs: 1000 }, { pick: () => b, ...given })
    rotation.move(b, 'down')
    rotation.move(b, 'up')
    return { a, b, rotation }
  }

  it('lets a target accept the share of picks that its time has passed, at least a tenth', (t) => {
    const set = still(t)
    const { a, b, rotation } = warming()
    assert.equal(b.warmFrom, 1000)
    for (const [ms, random, accepted] of [
      [0, 0.099, true],
      [0, 0.1, false],
      [100, 0.1, false],
      [101, 0.1, true],
      [500, 0.499, true],
      [500, 0.5, false],
      [999, 0.9985, true],
    ] as const) {
      set.now = 1000 + ms
      set.random = random
      let picked = 0
      const policy: Policy = { pick: () => (picked++ === 0 ? b : a) }
      const once = rotationOf([a, b], { slowStartMs: 1000 }, policy)
      assert.equal(once.choose(noClient, []), accepted ? b : a, `${ms} ${random}`)
      assert.equal(b.warmFrom, 1000)
    }
    set.now = 2000
    set.random = 0.999999
    assert.equal(rotation.choose(noClient, []), b)
    assert.equal(b.warmFrom, undefined)
  })

  it('does not apply to a policy with affinity, to a lone target, or to 0 ms', (t) => {
    const set = still(t)
    set.random = 0.4
    const affine = warming({ affinity: true })
    assert.equal(affine.rotation.choose(noClient, []), affine.b)
    const { a, b, rotation } = warming()
    for (const target of [a, b]) rotation.move(target, 'down')
    rotation.move(b, 'up')
    assert.equal(b.warmFrom, undefined)
    rotation.move(a, 'up')
    assert.equal(a.warmFrom, 1000)
    rotation.move(a, 'down')
    assert.equal(a.warmFrom, undefined)
    const plain = rotationOf([a, b])
    plain.move(a, 'up')
    assert.equal(a.warmFrom, undefined)
  })
})
