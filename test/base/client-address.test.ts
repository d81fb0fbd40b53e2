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

  it('is what it is if it only looks like one with a port, a mapping or brackets', () => {
    const same = [
      '2001:db8::ffff:102',
      '1::ffff:102:304',
      '::ffff:1:102:304',
      '::fffe:102:304',
      '::ffff:102',
      '0:0:1:0:0:ffff:102:304',
    ]
    assert.deepEqual(same.map(plainAddress), same)
    const none = ['192.0.2.1:123456', '192.0.2.1:', '[::1', '[::1]:123456', '[x]', '192.0.2.256', '%eth0', ' 192.0.2.1']
    assert.deepEqual(none.map(plainAddress), new Array(none.length).fill(undefined))
    assert.equal(plainAddress(undefined), undefined)
    assert.equal(plainAddress('[::FFFF:192.0.2.1]:80'), '192.0.2.1')
    assert.equal(plainAddress('::ffff:ff01:80fe'), '255.1.128.254')
    assert.equal(plainAddress('0:0:0:0:0:ffff:102:304'), '1.2.3.4')
  })

  it('is the peer without a zone or mapping if nothing is forwarded, and empty for a Unix domain socket', () => {
    for (const forwarded of [undefined, '', ',', ' , '])
      assert.equal(resolve(true, forwarded, '::ffff:10.0.0.9'), '10.0.0.9')
    assert.equal(
      resolveClient(undefined, undefined, () => true),
      '',
    )
    assert.equal(
      resolveClient(undefined, '1.1.1.1', () => true),
      '1.1.1.1',
    )
    assert.equal(
      resolveClient('unknown', undefined, () => true),
      'unknown',
    )
  })

  it('depends on the hop or the address, of the nearest first', () => {
    const asked: [string, number][] = []
    const client = resolveClient('10.0.0.9', '1.1.1.1, ,2.2.2.2,3.3.3.3', (address, hop) => {
      asked.push([address, hop])
      return hop < 2
    })
    assert.equal(client, '2.2.2.2')
    assert.deepEqual(asked, [
      ['10.0.0.9', 0],
      ['3.3.3.3', 1],
      ['2.2.2.2', 2],
    ])
  })

  it('may be named by all, no or some proxies', () => {
    const kinds = (trust: Parameters<typeof proxiesOf>[0]) => {
      const { all, none, byAddress } = proxiesOf(trust, 'trustProxy')
      return [all, none, byAddress]
    }
    assert.deepEqual([true, false].map(kinds), [
      [true, false, false],
      [false, true, false],
    ])
    assert.deepEqual([0, 1].map(kinds), [
      [false, true, false],
      [false, false, false],
    ])
    assert.deepEqual([[], ['10.0.0.0/8'], ['10.0.0.0/8', '::/0'], ['0.0.0.0/00'], ['10.0.0.0/10']].map(kinds), [
      [false, true, true],
      [false, false, true],
      [true, false, true],
      [true, false, true],
      [false, false, true],
    ])
    assert.throws(() => proxiesOf(['x'], 'some.option'), { message: /some\.option.*"x"/ })
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
    assert.deepEqual(
      [16, 17, 32, 48, 112, 113, 128].map((bits) => key('ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', bits)),
      [
        'ffff::/16',
        'ffff:8000::/17',
        'ffff:ffff::/32',
        'ffff:ffff:ffff::/48',
        'ffff:ffff:ffff:ffff:ffff:ffff:ffff::/112',
        'ffff:ffff:ffff:ffff:ffff:ffff:ffff:8000/113',
        'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128',
      ],
    )
    assert.equal(key('64:ff9b::192.0.2.1', 128), '64:ff9b:0:0:0:0:c000:201/128')
    assert.equal(key('::', 64), '0:0:0:0::/64')
    assert.equal(key('1:2:3::', 128), '1:2:3:0:0:0:0:0/128')
    assert.equal(key('a:b'), 'a:b')
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
