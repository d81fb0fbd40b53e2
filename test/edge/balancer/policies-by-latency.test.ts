import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import { LeastResponseTime } from '../../../src/edge/balancer/policies/least-response-time.ts'
import type { Policy } from '../../../src/edge/balancer/policies/policy.ts'
import { type Load, Prequal, type PrequalOptions } from '../../../src/edge/balancer/policies/prequal.ts'
import { Random } from '../../../src/edge/balancer/policies/random.ts'
import { samplePair } from '../../../src/edge/balancer/policies/sample.ts'
import { TwoChoices } from '../../../src/edge/balancer/policies/two-choices.ts'
import type { Target } from '../../../src/edge/balancer/target.ts'
import { limit9, load, noClient } from './policy.ts'
import { balancerDefaults, chiSquare, permutations, stubs, tally, tuples } from './stub.ts'

describe('two-choices', () => {
  it('never picks the most loaded target, in every order of loads', () => {
    for (const loads of permutations([0, 1, 2, 3, 9])) {
      const targets = stubs(5)
      const policy = new TwoChoices()
      load(policy, targets, loads)
      const counts = tally(100, () => policy.pick(targets))
      assert.equal(counts.get(targets[loads.indexOf(9)] as Target), undefined)
    }
  })

  it('picks each rank as often as two draws without replacement', () => {
    const targets = stubs(5)
    const policy = new TwoChoices()
    load(policy, targets, [0, 1, 2, 3, 4])
    const counts = tally(50_000, () => policy.pick(targets))
    const expected = [4, 3, 2, 1].map((better) => (better / 10) * 50_000)
    assert.ok(
      chiSquare(
        targets.slice(0, 4).map((t) => counts.get(t) ?? 0),
        expected,
      ) < limit9,
    )
  })

  it('keeps the maximum load far below that of one choice', () => {
    const spread = (policy: Policy): number => {
      const targets = stubs(100)
      for (let i = 0; i < 10_000; i++) (policy.pick(targets, noClient) as Target).inflight++
      return Math.max(...targets.map((target) => target.inflight)) - 100
    }
    assert.ok(spread(new TwoChoices()) <= 4)
    assert.ok(spread(new Random()) >= 10)
  })
})

describe('two different targets', () => {
  it('are drawn in four attempts, or the second is any other one', (t) => {
    t.mock.method(Math, 'random', () => 0)
    const targets = stubs(3)
    const [a, b, c] = targets as [Target, Target, Target]
    for (const [repeated, second] of [
      [0, b],
      [3, b],
      [4, c],
    ] as const) {
      const draws = [a, ...Array(repeated).fill(a), b]
      assert.deepEqual(
        samplePair(targets, () => draws.shift() as Target),
        [a, second],
        `${repeated}`,
      )
    }
    assert.deepEqual(
      samplePair([a], () => a),
      [a, a],
    )
  })
})

describe('least-response-time', () => {
  const slow = (targets: readonly Target[], latencies: readonly number[]): void =>
    targets.forEach((target, i) => {
      target.latency.observe(latencies[i] as number, performance.now())
    })

  it('never picks the slowest target, in every order of latencies', () => {
    for (const latencies of permutations([5, 6, 7, 8, 50])) {
      const targets = stubs(5)
      slow(targets, latencies)
      const policy = new LeastResponseTime()
      const counts = tally(100, () => policy.pick(targets))
      assert.equal(counts.get(targets[latencies.indexOf(50)] as Target), undefined)
    }
  })

  it('balances latency against requests in flight, in every combination', () => {
    const [a, b] = stubs(2) as [Target, Target]
    const policy = new LeastResponseTime()
    a.latency.observe(10, performance.now())
    b.latency.observe(30, performance.now())
    for (const [inA, inB] of tuples([0, 1, 2, 3, 7], 2) as Iterable<[number, number]>) {
      Object.assign(a, { inflight: inA })
      Object.assign(b, { inflight: inB })
      const difference = 10 * (inA + 1) - 30 * (inB + 1)
      if (difference !== 0) assert.equal(policy.pick([a, b]), difference < 0 ? a : b)
    }
  })

  it('counts a failure as a slow response', () => {
    const [good, bad] = stubs(2) as [Target, Target]
    const now = performance.now()
    good.latency.observe(200, now)
    for (let i = 0; i < 5; i++) {
      bad.latency.observe(1, now)
      bad.latency.punish(now)
    }
    const policy = new LeastResponseTime()
    assert.equal(tally(100, () => policy.pick([good, bad])).get(bad), undefined)
  })

  it('sends one request, not all, to a target without measurements', () => {
    const [known, fresh] = stubs(2) as [Target, Target]
    known.latency.observe(20, performance.now())
    const policy = new LeastResponseTime()
    assert.equal(policy.pick([known, fresh]), fresh)
    fresh.inflight = 1
    assert.equal(tally(100, () => policy.pick([known, fresh])).get(fresh), undefined)
  })
})

describe('prequal', () => {
  const options = { ...balancerDefaults.prequal, probesPerRequest: 3 }
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  const run = async (times: number, targets: readonly Target[], loadOf: (target: Target) => [number, number]) => {
    const policy = new Prequal(options, async (target) => {
      const [inflight, latencyMs] = loadOf(target)
      return { inflight, latencyMs }
    })
    const counts = new Map<Target, number>()
    for (let i = 0; i < times; i++) {
      const target = policy.pick(targets)
      await settle()
      if (i >= 20) counts.set(target, (counts.get(target) ?? 0) + 1)
    }
    policy.close()
    return counts
  }

  it('avoids the one slow target, at any position', async () => {
    for (let place = 0; place < 10; place++) {
      const targets = stubs(10)
      const counts = await run(300, targets, (target) => [1, target === targets[place] ? 50 : 5])
      assert.ok((counts.get(targets[place] as Target) ?? 0) <= 3)
    }
  })

  it('avoids hot targets, however fast they are', async () => {
    // One of ten could by chance make up the hottest sixth of the values, and would then not count as hot.
    const targets = stubs(20)
    const counts = await run(300, targets, (target) => (target === targets[4] ? [100, 1] : [2, 10]))
    assert.ok((counts.get(targets[4] as Target) ?? 0) <= 3)
  })

  it('compares two results, although another target responds to no probe', async () => {
    const targets = stubs(3)
    const counts = await run(300, targets, (target) => {
      if (target === targets[2]) throw new Error('no')
      return [1, target === targets[1] ? 50 : 5]
    })
    assert.ok((counts.get(targets[0] as Target) ?? 0) > 200, String(counts.get(targets[0] as Target)))
  })

  it('takes a target for hot by the quantile of the last 128 values', async (t) => {
    const targets = stubs(2)
    const [fast] = targets
    let draws = 0
    // Probes go to both in turn.
    t.mock.method(Math, 'random', () => (draws++ % 2) / 2)
    const values: number[] = []
    const loads = new Map<Target, number>()
    const policy = new Prequal(
      { ...options, probesPerRequest: 2, reuse: 100, maxAgeMs: 3_600_000, hotQuantile: 0.5 },
      async (target) => {
        // From 0 to 511, in no order (Fibonacci hashing).
        const inflight = Math.imul(values.length + 1, 0x9e3779b1) >>> 23
        values.push(inflight)
        loads.set(target, inflight)
        return { inflight, latencyMs: target === fast ? 1 : 1_000 }
      },
    )
    policy.pick(targets)
    await settle()
    for (let i = 0; i < 400; i++) {
      const sorted = values.slice(-128).sort((a, b) => a - b)
      const hot = sorted[Math.floor((sorted.length - 1) / 2)] as number
      const [a, b] = targets.map((target) => loads.get(target)) as [number, number]
      // The fast one, unless it is hot and the other is not, or has more in flight while both are hot.
      const isFast = a <= hot || (b > hot && a < b)
      const target = policy.pick(targets)
      if (a !== b) assert.equal(target === fast, isFast, `${a} and ${b} at ${hot}`)
      await settle()
    }
    policy.close()
  })

  it('spreads requests while no probe responds', async () => {
    const targets = stubs(4)
    const policy = new Prequal(options, () => Promise.reject(new Error('no')))
    const counts = tally(4000, () => policy.pick(targets))
    await settle()
    assert.equal(counts.size, 4)
  })

  it('never has more probes in flight than its pool can hold', async () => {
    let pending = 0
    const policy = new Prequal(options, () => {
      pending++
      return new Promise(() => {})
    })
    for (let i = 0; i < 100; i++) policy.pick(stubs(3))
    assert.equal(pending, options.poolSize)
  })

  it('uses no result of a target that has left, whether it came before that or after', async (t) => {
    let draws = 0
    // Probes go to all in turn.
    t.mock.method(Math, 'random', () => ((draws++ % 3) + 0.5) / 3)
    for (const late of [false, true]) {
      const [a, b, fastest] = stubs(3) as [Target, Target, Target]
      const all = [a, b, fastest]
      const rest = [a, b]
      const waiting: (() => void)[] = []
      const policy = new Prequal({ ...options, reuse: 100, maxAgeMs: 3_600_000 }, (target) => {
        const result = { inflight: 0, latencyMs: target === fastest ? 1 : 100 }
        return new Promise((resolve) => waiting.push(() => resolve(result)))
      })
      const respond = async (): Promise<void> => {
        for (const each of waiting.splice(0)) each()
        await settle()
      }
      policy.pick(all)
      if (!late) {
        await respond()
        assert.equal(policy.pick(all), fastest)
      }
      const picked = [policy.pick(rest)]
      await respond()
      for (let i = 0; i < 3; i++) picked.push(policy.pick(rest))
      assert.ok(!picked.includes(fastest), late ? 'after' : 'before')
      policy.close()
    }
  })

  /** Two targets that respond to their first probe only. Without their results, the second one is preferred. */
  async function probedOnce(t: TestContext, results: readonly [Load, Load], more: Partial<PrequalOptions>) {
    t.mock.restoreAll()
    const time = { now: 1000 }
    t.mock.method(performance, 'now', () => time.now)
    let draws = 0
    // Probes go to both in turn.
    t.mock.method(Math, 'random', () => (draws++ % 2) / 2)
    const targets = stubs(2) as [Target, Target]
    targets[0].latency.observe(500, time.now)
    targets[1].latency.observe(1, time.now)
    let probes = 0
    const policy = new Prequal({ ...options, probesPerRequest: 2, hotQuantile: 1, ...more }, (target) =>
      probes++ < 2 ? Promise.resolve(results[target === targets[0] ? 0 : 1]) : new Promise<Load>(() => {}),
    )
    /** Position of the target that is picked. */
    const pick = (): number => targets.indexOf(policy.pick(targets))
    assert.equal(pick(), 1, 'without results')
    await settle()
    return { time, pick }
  }

  it('keeps the results of one list while another is in use, as with canaries', async (t) => {
    t.mock.restoreAll()
    t.mock.method(performance, 'now', () => 1000)
    let draws = 0
    t.mock.method(Math, 'random', () => (draws++ % 2) / 2)
    const [fast, slow, ...canaries] = stubs(4) as [Target, Target, Target, Target]
    const stable = [fast, slow]
    // Without results, the second one is preferred.
    fast.latency.observe(500, 1000)
    slow.latency.observe(1, 1000)
    const policy = new Prequal({ ...options, probesPerRequest: 2, reuse: 100 }, async (target) => ({
      ...{ inflight: 0, latencyMs: target === fast ? 1 : 100 },
    }))
    assert.equal(policy.pick(stable), slow)
    await settle()
    assert.equal(policy.pick(stable), fast)
    policy.pick(canaries)
    await settle()
    assert.equal(policy.pick(stable), fast)
    policy.close()
  })

  it('uses a result for maxAgeMs and for `reuse` requests, and no longer', async (t) => {
    // The first one is faster, and the second one so busy that the first never counts as hot.
    const results = [
      { inflight: 0, latencyMs: 1 },
      { inflight: 40, latencyMs: 100 },
    ] as const
    const old = await probedOnce(t, results, { maxAgeMs: 1000, reuse: 100 })
    old.time.now += 1000
    assert.equal(old.pick(), 0)
    old.time.now += 1
    assert.equal(old.pick(), 1)
    const used = await probedOnce(t, results, { maxAgeMs: 1000, reuse: 3 })
    assert.deepEqual([1, 2, 3, 4].map(used.pick), [0, 0, 0, 1])
  })

  it('counts the requests that it has sent since a probe', async (t) => {
    const idle = { inflight: 0, latencyMs: 10 }
    const { pick } = await probedOnce(t, [idle, idle], { reuse: 100 })
    assert.deepEqual([1, 2, 3, 4].map(pick), [0, 1, 0, 1])
  })
})
