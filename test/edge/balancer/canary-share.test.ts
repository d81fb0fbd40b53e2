import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { addressKey } from '../../../src/base/client-address.ts'
import { hashText } from '../../../src/edge/balancer/policies/hash.ts'
import type { PickInput } from '../../../src/edge/balancer/policies/index.ts'
import { RoundRobin } from '../../../src/edge/balancer/policies/round-robin.ts'
import { Rotation } from '../../../src/edge/balancer/rotation.ts'
import { stub } from './stub.ts'

describe('the share of canaries', () => {
  const stable = stub(1)
  const canary = stub(9, { canary: true })
  const goes = (percent: number, input: Partial<PickInput> = {}): boolean => {
    const rotation = new Rotation(new RoundRobin(), { slowStartMs: 0, panicThreshold: 0, canaryPercent: percent })
    for (const target of [stable, canary]) rotation.add(target)
    return rotation.choose({ client: '', headers: {}, ...input }, []) === canary
  }

  it('is that of random numbers below the percentage, for requests without a client', (t) => {
    const random = t.mock.method(Math, 'random')
    for (const [value, percent, expected] of [
      [0.2, 20, false],
      [0.199, 20, true],
      [0, 1, true],
      [0.999, 100, true],
      [0.999, 99, false],
    ] as const) {
      random.mock.mockImplementation(() => value)
      assert.equal(goes(percent), expected, `${value} ${percent}`)
    }
  })

  it('is that of hashes of addresses below the percentage, by /64 for IPv6', () => {
    for (const client of ['192.0.2.1', '192.0.2.77', '2001:db8::1']) {
      const percent = (hashText(addressKey(client, 64)) / 2 ** 32) * 100
      assert.deepEqual([goes(percent, { client }), goes(percent + 1e-6, { client })], [false, true], client)
    }
    const percent = (hashText(addressKey('2001:db8::1', 64)) / 2 ** 32) * 100
    assert.equal(goes(percent, { client: '2001:db8::ffff' }), false)
    assert.equal(goes(percent + 1e-6, { client: '2001:db8::ffff' }), true)
  })

  it('is overruled by the first cookie fleet_canary of always or never', (t) => {
    t.mock.method(Math, 'random', () => 0.5)
    for (const [cookie, low, high] of [
      ['fleet_canary=always', true, true],
      ['fleet_canary=never', false, false],
      ['a=b; fleet_canary=never; fleet_canary=always', false, false],
      ['fleet_canary=maybe', false, true],
      ['fleet_canary2=always', false, true],
      ['fleet_canary=', false, true],
    ] as const) {
      const input = { headers: { cookie } }
      assert.deepEqual([goes(49, input), goes(51, input)], [low, high], cookie)
    }
    assert.equal(goes(0, { headers: { cookie: 'fleet_canary=always' } }), false)
  })
})
