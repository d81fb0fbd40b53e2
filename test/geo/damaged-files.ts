import { writeMmdb } from './mmdb-writer.ts'

const marker = Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1')
/** A map of two pointers to a map of two pointers to …: 243 bytes that expand to 2^27 maps. */
const bomb = Buffer.concat(
  Array.from({ length: 27 }, (_, i) =>
    Buffer.from([0xe2, 0x41, 0x61, 0x20, 9 * (i + 1), 0x41, 0x62, 0x20, 9 * (i + 1)]),
  ),
)
/** Arrays within arrays, each of which announces 16 million elements. */
const arrays = Buffer.concat(Array.from({ length: 500 }, () => Buffer.from([0x1f, 0x04, 0xff, 0xff, 0xff])))
/** A pointer to itself, the first value of the data section. */
const cycle = Buffer.from([0x20, 0x00])

const placeholder = 'x'.repeat(3000)

/** A valid database in which `value` stands at the start of the data section, and is the record of 1.2.3.0/24. */
function withRecord(value: Buffer): Buffer {
  const file = writeMmdb({ '1.2.3.0/24': placeholder, '2001:db8::/32': { country: { iso_code: 'JP' } } })
  value.copy(file, file.indexOf(placeholder) - 3)
  return file
}

export const damagedFiles = {
  metadataBomb: Buffer.concat([marker, bomb]),
  metadataArrays: Buffer.concat([marker, Buffer.from([0xe1, 0x41, 0x61]), arrays]),
  recordBomb: withRecord(bomb),
  recordArrays: withRecord(arrays),
  recordCycle: withRecord(cycle),
} satisfies Record<string, Buffer>
