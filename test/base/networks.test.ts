import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { networks } from '../../src/base/networks.ts'

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
})
