import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { MaxmindReader } from '../../src/geo/maxmind.ts'
import { writeMmdb } from './mmdb-writer.ts'

const country = (code: string) => ({ country: { iso_code: code } })
const long = 'x'.repeat(5000)
const networks = {
  '1.2.3.0/24': country('DE'),
  '1.2.4.0/22': country('FR'),
  '9.9.9.9/32': { text: long, list: [1, 70_000, -1.5, true], empty: {}, zero: 0 },
  '2001:db8::/32': country('JP'),
}

describe('a MaxMind database', () => {
  for (const size of [24, 28, 32] as const) {
    it(`is read with records of ${size} bits`, () => {
      const reader = new MaxmindReader(writeMmdb(networks, size))
      const get = (address: string): unknown => {
        const record = reader.find(address)
        return record === undefined ? undefined : reader.get(record)
      }
      assert.deepEqual(get('1.2.3.4'), country('DE'))
      assert.deepEqual(get('::ffff:1.2.3.4'), country('DE'))
      for (const address of ['1.2.4.0', '1.2.7.255']) assert.deepEqual(get(address), country('FR'))
      assert.deepEqual(get('9.9.9.9'), networks['9.9.9.9/32'])
      assert.deepEqual(get('2001:db8:1:2:3:4:5:6'), country('JP'))
      assert.deepEqual(get('2001:db8::1'), country('JP'))
      for (const address of ['1.2.2.255', '1.2.8.0', '9.9.9.8', '2001:db9::', '::1', 'nonsense', '']) {
        assert.equal(get(address), undefined, address)
      }
      assert.equal(reader.find('1.2.3.4'), reader.find('1.2.3.200'))
    })
  }

  it('that is none, or is broken, is refused', () => {
    const file = writeMmdb(networks)
    const marker = file.lastIndexOf(Buffer.from('MaxMind.com'))
    for (const broken of [Buffer.alloc(0), Buffer.from('hello'), file.subarray(0, marker + 20), file.subarray(-150)]) {
      assert.throws(() => new MaxmindReader(broken), { code: 'FLEET_ERR_GEO_DATABASE' })
    }
  })

  it('that makes much out of few bytes is refused, or knows nothing there', () => {
    const metadata = Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1')
    // A pointer to the last of six arrays, each of which has thirty pointers to the one before it.
    const arrays = Array.from({ length: 6 }, (_, level) => {
      const before = 2 + (level === 0 ? 6 : level - 1) * 63
      return [
        0x1d,
        0x04,
        1,
        ...Array(30)
          .fill([0x20 | (before >> 8), before & 255])
          .flat(),
      ]
    })
    const multiplying = Buffer.from([0x21, 0x3d, ...arrays.flat(), 0, 7])
    const self = Buffer.from([0x20, 0x00])
    const endless = Buffer.from([0x1d, 0x04, 0xff, ...Array(300).fill([0x20, 0]).flat()])
    const array = Buffer.from([0x1f, 0x04, 0xff, 0xff, 0xff, 0x20, 0])
    for (const body of [multiplying, self, endless, array])
      assert.throws(() => new MaxmindReader(Buffer.concat([metadata, body])), { code: 'FLEET_ERR_GEO_DATABASE' })
  })

  it('that is broken inside knows nothing there', () => {
    const file = writeMmdb(networks)
    for (let seed = 1; seed < 300; seed++) {
      const broken = Buffer.from(file)
      for (let i = 0; i < 20; i++)
        broken[(seed * 7919 + i * 104_729) % (file.length - 300)] = (seed * 31 + i * 17) & 255
      const reader = new MaxmindReader(broken)
      for (const address of ['1.2.3.4', '9.9.9.9', '2001:db8::1']) {
        const record = reader.find(address)
        if (record !== undefined) reader.get(record)
      }
    }
  })
})
