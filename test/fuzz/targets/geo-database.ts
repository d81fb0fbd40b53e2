import assert from 'node:assert/strict'
import { FleetError } from '../../../src/base/errors.ts'
import { GeoDatabase } from '../../../src/geo/database.ts'
import { damagedFiles } from '../../geo/damaged-files.ts'
import { writeMmdb } from '../../geo/mmdb-writer.ts'
import type { Target } from '../engine/target.ts'

const networks = {
  '1.2.3.0/24': { country: { iso_code: 'DE', names: { en: 'Germany' } }, location: { latitude: 51.5, longitude: 9 } },
  '2001:db8::/32': { country: { iso_code: 'FR' }, list: [1, 2, [3, { a: true }]] },
}
const addresses = ['1.2.3.4', '::ffff:1.2.3.4', '2001:db8::1', '255.255.255.255', 'ffff::', '::', 'fe80::1%eth0', 'x']
const marker = Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1')
/** Damaged MaxMind DB files: rejected, or every lookup returns within the limits that we add to mmdb-lib. */
export default {
  seeds: [
    ...([24, 28, 32] as const).map((size) => writeMmdb(networks, size)),
    ...Object.values(damagedFiles),
    Buffer.concat([marker, Buffer.from([0x20, 0])]),
    Buffer.concat([marker, Buffer.alloc(2000, 0x01), Buffer.alloc(2000, 0x04)]),
  ],
  dictionary: [
    marker,
    '\x20\x00',
    '\xe1',
    '\xff\xff\xff\xff',
    '\x1f\x04\xff\xff\xff',
    '\x00\x04',
    'node_count',
    'record_size',
  ],
  maxBytes: 16_384,
  run(input) {
    let database: GeoDatabase
    try {
      database = new GeoDatabase(input)
    } catch (error) {
      assert.ok(error instanceof FleetError, String(error))
      return 'rejected'
    }
    return addresses.map((address) => typeof database.find(address)).join(' ')
  },
} satisfies Target
