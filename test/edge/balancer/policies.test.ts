import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it } from 'node:test'
import {
  createPolicy,
  type PickInput,
  type PolicyName,
  policyNames,
} from '../../../src/edge/balancer/policies/index.ts'
import { IpHash } from '../../../src/edge/balancer/policies/ip-hash.ts'
import { LeastConnections } from '../../../src/edge/balancer/policies/least-connections.ts'
import { LeastResponseTime } from '../../../src/edge/balancer/policies/least-response-time.ts'
import type { Policy } from '../../../src/edge/balancer/policies/policy.ts'
import { Prequal } from '../../../src/edge/balancer/policies/prequal.ts'
import { Random } from '../../../src/edge/balancer/policies/random.ts'
import { RoundRobin } from '../../../src/edge/balancer/policies/round-robin.ts'
import { StickyCookie } from '../../../src/edge/balancer/policies/sticky-cookie.ts'
import { TwoChoices } from '../../../src/edge/balancer/policies/two-choices.ts'
import { Weighted } from '../../../src/edge/balancer/policies/weighted.ts'
import type { Target } from '../../../src/edge/balancer/target.ts'
import { balancerDefaults, chiSquare, permutations, stub, stubs, tally, tuples } from './stub.ts'

const from = (client: string, cookie?: string): PickInput => ({ client, headers: { cookie } })
const noClient = from('')
/** Chi-square with 9 degrees of freedom is above this once in a million. */
const limit9 = 45
const secret = 'a secret of at least thirty-two bytes'

const load = (policy: Policy, targets: readonly Target[], loads: readonly number[]): void =>
  targets.forEach((target, i) => {
    for (const step = Math.sign((loads[i] as number) - target.inflight); target.inflight !== loads[i]; ) {
      target.inflight += step
      policy.loaded?.(target)
    }
  })

const one = (name: PolicyName): Policy =>
  createPolicy(name, { ...balancerDefaults, sticky: { ...balancerDefaults.sticky, secret } }, async (target) => ({
    inflight: target.inflight,
    latencyMs: 1,
  }))

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

describe('ip-hash', () => {
  const clients = Array.from({ length: 20_000 }, (_, i) => from(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`))
  const map = (targets: readonly Target[], policy = new IpHash()): Target[] =>
    clients.map((client) => policy.pick(targets, client))

  it('sends the same client to the same target, on every balancer and in any order of targets', () => {
    const targets = stubs(10)
    assert.deepEqual(map(targets), map(targets.toReversed()))
  })

  it('moves only the clients of a removed target, and all of them back when it returns', () => {
    const targets = stubs(10)
    const policy = new IpHash()
    const before = map(targets, policy)
    for (const gone of targets) {
      const after = map(
        targets.filter((target) => target !== gone),
        policy,
      )
      before.forEach((target, i) => {
        if (target !== gone) assert.equal(after[i], target)
      })
      assert.ok(before.filter((target) => target === gone).length < clients.length / 10 + 400)
    }
    assert.deepEqual(map([...targets], policy), before)
  })

  it('sends an IPv6 /64 network to one target, and networks to different ones', () => {
    const [policy, targets] = [new IpHash(), stubs(10)]
    const pick = (client: string): Target => policy.pick(targets, from(client))
    for (let n = 1; n < 100; n++) assert.equal(pick(`2001:db8:1:2::${n}`), pick('2001:db8:1:2::'))
    assert.ok(new Set(Array.from({ length: 100 }, (_, n) => pick(`2001:db8:1:${n}::1`))).size > 5)
  })

  it('spreads clients evenly, and by weight', () => {
    for (const weights of [Array(10).fill(1), [1, 1, 1, 1, 1, 5, 5, 5, 5, 5]]) {
      const targets = weights.map((weight, i) => stub(i, { weight }))
      const total = weights.reduce((a, b) => a + b)
      const counts = new Map<Target, number>()
      for (const target of map(targets)) counts.set(target, (counts.get(target) ?? 0) + 1)
      targets.forEach((target, i) => {
        const expected = (clients.length * weights[i]) / total
        assert.ok(Math.abs((counts.get(target) ?? 0) - expected) < expected * 0.15)
      })
    }
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
})

describe('sticky-cookie', () => {
  const options = { ...balancerDefaults.sticky, secret }
  const cookieOf = (input: PickInput): string => (input.setCookie ?? '').split(';')[0] ?? ''

  it('sends a client back to its target until that leaves rotation', () => {
    const targets = stubs(5)
    const policy = new StickyCookie(options, new RoundRobin())
    const first = from('')
    const target = policy.pick(targets, first)
    assert.match(first.setCookie ?? '', /^fleet_target=[\da-f]{12}\.[\w-]{43}; Path=\/; HttpOnly; SameSite=Lax$/)
    for (let i = 0; i < 10; i++) {
      const input = from('', `a=b; ${cookieOf(first)}; c=d`)
      assert.equal(policy.pick(targets, input), target)
      assert.equal(input.setCookie, undefined)
    }
    const input = from('', cookieOf(first))
    const other = policy.pick(
      targets.filter((t) => t !== target),
      input,
    )
    assert.notEqual(other, target)
    assert.ok(input.setCookie)
  })

  it('is accepted by another balancer with the same secret only', () => {
    const targets = stubs(5)
    const first = from('')
    const target = new StickyCookie(options, new RoundRobin()).pick(targets, first)
    const back = from('', cookieOf(first))
    assert.equal(new StickyCookie(options, new Random()).pick(targets, back), target)
    const stranger = from('', cookieOf(first))
    new StickyCookie({ ...options, secret: secret.toUpperCase() }, new Random()).pick(targets, stranger)
    assert.ok(stranger.setCookie)
  })

  it('ignores a forged cookie', () => {
    const targets = stubs(3)
    const policy = new StickyCookie(options, new RoundRobin())
    const id = (targets[2] as Target).id
    for (const value of [id, `${id}.`, `${id}.${'A'.repeat(43)}`, '', '.', '=', 'x.y.z', `${id}.${'é'.repeat(43)}`]) {
      const input = from('', `fleet_target=${value}`)
      policy.pick(targets, input)
      assert.ok(input.setCookie, value)
    }
  })

  it('rejects a weak secret', () => {
    assert.throws(() => new StickyCookie({ ...options, secret: 'short' }, new Random()), {
      code: 'FLEET_ERR_SECRET_WEAK',
    })
    assert.throws(() => createPolicy('sticky-cookie', balancerDefaults, async () => ({ inflight: 0, latencyMs: 0 })), {
      code: 'FLEET_ERR_SECRET_MISSING',
    })
  })
})
