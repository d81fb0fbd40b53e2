import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { addressKey, plainAddress, proxiesOf, resolveClient } from '../../src/base/client-address.ts'
import { networks } from '../../src/base/networks.ts'

describe("a client's address", () => {
  const resolve = (trust: Parameters<typeof proxiesOf>[0], header: string | undefined, peer = '10.0.0.9') =>
    resolveClient(peer, header, proxiesOf(trust, 'trustProxy').trusts)

  it('is the peer unless the peer is trusted', () => {
    for (const trust of [false, 0, [], ['192.0.2.0/24']]) assert.equal(resolve(trust, '1.1.1.1'), '10.0.0.9')
    assert.equal(resolve(true, undefined), '10.0.0.9')
    assert.equal(resolve(true, '1.1.1.1, 2.2.2.2'), '1.1.1.1')
  })

  it('is found exactly as many hops away as are trusted', () => {
    const header = '1.1.1.1, 2.2.2.2, 3.3.3.3'
    assert.deepEqual(
      [1, 2, 3, 4].map((hops) => resolve(hops, header)),
      ['3.3.3.3', '2.2.2.2', '1.1.1.1', '1.1.1.1'],
    )
  })

  it('is found at most 32 hops away', () => {
    const header = Array.from({ length: 40 }, (_, i) => `1.1.1.${i}`).join(',')
    assert.equal(resolve(true, header), '1.1.1.8')
  })

  it('is the nearest that is not in the trusted networks, or the proxy before a part that is no address', () => {
    assert.equal(resolve(['10.0.0.0/8'], '1.1.1.1, 2.2.2.2, 10.0.0.1'), '2.2.2.2')
    assert.equal(resolve(['10.0.0.0/8'], '1.1.1.1, unknown, 10.0.0.1'), '10.0.0.1')
    assert.equal(resolve(['10.0.0.0/8'], '1.1.1.1, , 10.0.0.1:80'), '1.1.1.1')
  })

  it('has no port, zone or mapping', () => {
    const plain = [
      '192.0.2.1:80',
      '[2001:db8::1]:80',
      'fe80::1%eth0',
      '::ffff:192.0.2.1',
      '::ffff:c000:201',
      '::1',
      'x',
      '',
    ]
    assert.deepEqual(plain.map(plainAddress), [
      '192.0.2.1',
      '2001:db8::1',
      'fe80::1',
      '192.0.2.1',
      '192.0.2.1',
      '::1',
      undefined,
      undefined,
    ])
    assert.equal(plainAddress(`fe80::1%${'x'.repeat(56)}`), 'fe80::1')
    assert.equal(plainAddress(`fe80::1%${'x'.repeat(57)}`), undefined)
  })

  it('counts as one client with the others of its IPv6 network', () => {
    const key = (address: string, bits = 64) => addressKey(address, bits)
    assert.equal(key('192.0.2.1'), '192.0.2.1')
    assert.equal(key(''), 'unix')
    assert.equal(key('2001:db8:1:2::1'), '2001:db8:1:2::/64')
    assert.equal(key('2001:db8:1:2:ffff::'), key('2001:db8:1:2::1'))
    assert.notEqual(key('2001:db8:1:3::1'), key('2001:db8:1:2::1'))
    assert.equal(key('2001:db8:1:12ff::1', 56), '2001:db8:1:1200::/56')
    assert.notEqual(key('2001:db8::1', 128), key('2001:db8::2', 128))
  })
})

it('a network includes its first and its last address, in both families', () => {
  const known = networks(['10.1.0.0/16', '2001:db8::/32', '192.0.2.7', 'loopback'], 'allow')
  for (const address of [
    '10.1.0.0',
    '10.1.255.255',
    '::ffff:10.1.2.3',
    '2001:db8::',
    '2001:db8:ffff::1',
    '192.0.2.7',
    '127.9.9.9',
    '::1',
  ])
    assert.equal(known.includes(address), true, address)
  for (const address of [
    '10.0.255.255',
    '10.2.0.0',
    '2001:db9::',
    '192.0.2.6',
    '192.0.2.8',
    '128.0.0.1',
    '::2',
    '',
    'x',
    undefined,
  ])
    assert.equal(known.includes(address), false, address)
})
