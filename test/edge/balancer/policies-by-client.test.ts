import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createPolicy, type PickInput } from '../../../src/edge/balancer/policies/index.ts'
import { IpHash } from '../../../src/edge/balancer/policies/ip-hash.ts'
import { LeastConnections } from '../../../src/edge/balancer/policies/least-connections.ts'
import { Random } from '../../../src/edge/balancer/policies/random.ts'
import { RoundRobin } from '../../../src/edge/balancer/policies/round-robin.ts'
import { StickyCookie } from '../../../src/edge/balancer/policies/sticky-cookie.ts'
import type { Target } from '../../../src/edge/balancer/target.ts'
import { from, load, secret } from './policy.ts'
import { balancerDefaults, stub, stubs } from './stub.ts'

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

describe('sticky-cookie', () => {
  const options = { ...balancerDefaults.sticky, secret }
  const cookieOf = (input: PickInput): string => (input.setCookie ?? '').split(';')[0] ?? ''

  it('has an age and `Secure` if the options say so', () => {
    const cookie = (more: object): string => {
      const input = from('')
      new StickyCookie({ ...options, ...more }, new RoundRobin()).pick(stubs(1), input)
      return (input.setCookie ?? '').replace(/^[^;]*; /, '')
    }
    assert.equal(cookie({}), 'Path=/; HttpOnly; SameSite=Lax')
    assert.equal(cookie({ maxAge: 1 }), 'Path=/; HttpOnly; SameSite=Lax; Max-Age=1')
    assert.equal(cookie({ maxAge: 60, secure: true }), 'Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure')
  })

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

  it('finds the target of a client among several cookies of the name, in any order', () => {
    const targets = stubs(3)
    const policy = new StickyCookie(options, new RoundRobin())
    const first = from('')
    const target = policy.pick(targets, first)
    for (const cookies of [
      ['fleet_target=of.another', cookieOf(first)],
      [cookieOf(first), 'fleet_target=of.another'],
    ]) {
      const input = from('', cookies.join('; '))
      // Round robin would pick another one in at least one of three turns.
      for (let i = 0; i < 3; i++) assert.equal(policy.pick(targets, input), target)
      assert.equal(input.setCookie, undefined)
    }
  })

  it('lets the policy for clients without a cookie know the load of the targets', () => {
    const targets = stubs(3)
    const policy = new StickyCookie(options, new LeastConnections())
    policy.pick(targets, from(''))
    for (const least of [1, 2, 0]) {
      load(
        policy,
        targets,
        targets.map((_, i) => (i === least ? 0 : 9)),
      )
      assert.equal(policy.pick(targets, from('')), targets[least])
    }
  })

  it('is accepted by another balancer with the same secret only', () => {
    const targets = stubs(5)
    const first = from('')
    const target = new StickyCookie(options, new RoundRobin()).pick(targets, first)
    const back = from('', cookieOf(first))
    assert.equal(new StickyCookie(options, new Random()).pick(targets, back), target)
    const outsider = from('', cookieOf(first))
    new StickyCookie({ ...options, secret: secret.toUpperCase() }, new Random()).pick(targets, outsider)
    assert.ok(outsider.setCookie)
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
