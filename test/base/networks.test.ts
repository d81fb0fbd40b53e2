import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { firstAddresses, isNetwork, networks } from '../../src/base/networks.ts'

describe('networks', () => {
  it('matches addresses, blocks, names and IPv4 in IPv6', () => {
    const trusted = networks(['loopback', '10.1.0.0/16', '192.0.2.7', 'fd00::/8'], 'trustProxy')
    for (const address of ['127.0.0.1', '::1', '::ffff:127.0.0.9', '10.1.2.3', '192.0.2.7', 'fd12::1']) {
      assert.ok(trusted.includes(address), address)
    }
    for (const address of ['10.2.0.1', '192.0.2.8', '::ffff:8.8.8.8', '2001:db8::1', 'nonsense', undefined]) {
      assert.ok(!trusted.includes(address), String(address))
    }
  })

  for (const entry of ['everywhere', '10.0.0.0/33', '10.0.0.0/', '::1/129', '']) {
    it(`rejects ${JSON.stringify(entry)}`, () => {
      assert.throws(() => networks([entry], 'trustProxy'), { code: 'FLEET_ERR_OPTION_INVALID', message: /trustProxy/ })
    })
  }

  const within = (entry: string, ...addresses: string[]) => {
    const known = networks([entry], 'trustProxy')
    return addresses.map((address) => known.includes(address))
  }

  it('has names for the addresses of this machine, of links and of private networks', () => {
    assert.deepEqual(within('loopback', '127.0.0.0', '127.255.255.255', '126.255.255.255', '128.0.0.0', '::1', '::'), [
      ...[true, true, false, false, true, false],
    ])
    assert.deepEqual(
      within('linklocal', '169.254.0.0', '169.254.255.255', '169.253.0.1', 'fe80::', 'febf::1', 'fec0::'),
      [...[true, true, false, true, true, false]],
    )
    assert.deepEqual(
      within('uniquelocal', '10.0.0.0', '172.16.0.0', '172.31.255.255', '192.168.0.0', 'fc00::', 'fdff::'),
      [...[true, true, true, true, true, true]],
    )
    assert.deepEqual(
      within('uniquelocal', '9.255.255.255', '172.15.0.0', '172.32.0.0', '192.169.0.0', 'fbff::', 'fe00::'),
      [...[false, false, false, false, false, false]],
    )
  })

  it('has blocks of any length, also all addresses of a family', () => {
    assert.deepEqual(within('0.0.0.0/0', '1.2.3.4', '::1'), [true, false])
    assert.deepEqual(within('::/0', '2001:db8::1', '1.2.3.4'), [true, true])
    assert.deepEqual(within('192.0.2.7/32', '192.0.2.7', '192.0.2.6'), [true, false])
    assert.deepEqual(within('::1/128', '::1', '::2'), [true, false])
    assert.deepEqual(within('fe80::1', 'fe80::1%eth0', '::ffff:0:1'), [true, false])
  })

  it('is an address, a block or a name', () => {
    for (const entry of ['10.0.0.1', '10.0.0.0/8', '::/0', '::1', 'loopback', 'uniquelocal', '10.0.0.0/32', '::1/128'])
      assert.equal(isNetwork(entry), true, entry)
    for (const entry of ['toString', '10.0.0.0/8/8', '10.0.0.0/a', '10.0.0.0/-1', '10.0.0.0/0008', 'fe80::1%eth0', 'a'])
      assert.equal(isNetwork(entry), false, entry)
  })

  it('starts with its first address', () => {
    assert.deepEqual(firstAddresses(['loopback', '10.1.0.0/16', '::2']), ['127.0.0.0', '::1', '10.1.0.0', '::2'])
  })
})
