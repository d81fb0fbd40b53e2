import assert from 'node:assert/strict'
import { FleetError } from '../../../src/base/errors.ts'
import { MaxmindReader } from '../../../src/geo/maxmind.ts'
import { writeMmdb } from '../../geo/mmdb-writer.ts'
import type { Target } from '../engine/target.ts'

const networks = {
  '1.2.3.0/24': { country: { iso_code: 'DE', names: { en: 'Germany' } }, location: { latitude: 51.5, longitude: 9 } },
  '2001:db8::/32': { country: { iso_code: 'FR' }, list: [1, 2, [3, { a: true }]] },
}
const addresses = ['1.2.3.4', '::ffff:1.2.3.4', '2001:db8::1', '255.255.255.255', 'ffff::', '::', 'fe80::1%eth0', 'x']
const marker = Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1')
/** A map of two pointers to a map of two pointers to …: small, but huge when expanded. */
const bomb = Buffer.concat(
  Array.from({ length: 27 }, (_, i) =>
    Buffer.from([0xe2, 0x41, 0x61, 0x20, 9 * (i + 1), 0x41, 0x62, 0x20, 9 * (i + 1)]),
  ),
)

/** A MaxMind DB with changed bytes: the reader rejects it, or completes each lookup. */
export default {
  seeds: [
    ...([24, 28, 32] as const).map((size) => writeMmdb(networks, size)),
    Buffer.concat([Buffer.alloc(22), bomb, marker, Buffer.from([0xe0])]),
    Buffer.concat([marker, bomb]),
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
    let reader: MaxmindReader
    try {
      reader = new MaxmindReader(input)
    } catch (error) {
      assert.ok(error instanceof FleetError, String(error))
      return 'rejected'
    }
    const found = addresses.map((address) => {
      const record = reader.find(address)
      return record === undefined ? undefined : typeof reader.get(record)
    })
    return found.join(' ')
  },
} satisfies Target
