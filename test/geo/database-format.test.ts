import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { GeoDatabase } from '../../src/geo/database.ts'
import { writeMmdb } from './mmdb-writer.ts'

const size = 600_000
const filler = 'x'.repeat(60_000)
/** A file large enough for pointers of all sizes in its data section. */
const blank = writeMmdb(
  Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`${i + 1}.2.3.0/24`, `${'abcdefghijk'[i]}${filler}`])),
  32,
)
/** Before the record of 1.2.3.4, a text, are the three bytes of its type and size. */
const start = blank.indexOf(`a${filler}`) - 3
blank.fill('A', start, start + size)

/** The record of 1.2.3.4 in a file whose data section has these bytes at these places, and otherwise letters. */
function recordOf(...bytes: readonly (readonly [at: number, bytes: readonly number[]])[]): unknown {
  const file = Buffer.from(blank)
  for (const [at, each] of bytes) Buffer.from(each).copy(file, start + at)
  return new GeoDatabase(file).find('1.2.3.4')
}

/** An array that announces 16 million elements. */
const endless = [0x1f, 0x04, 0xff, 0xff, 0xff]
/** The text `b`. */
const b = [0x41, 0x62]
const list = (...parts: readonly (readonly number[])[]): number[] => [parts.length, 4, ...parts.flat()]

describe('a record of a MaxMind database', () => {
  const pointers: [string, readonly number[], number][] = [
    ['one byte', [0x20, 200], 200],
    ['one byte and three bits', [0x23, 200], 0x3c8],
    ['two bytes', [0x28, 1, 2], 0x102 + 2048],
    ['two bytes and three bits', [0x2d, 1, 2], 0x5_01_02 + 2048],
    ['three bytes', [0x30, 0, 1, 2], 0x102 + 526_336],
    ['four bytes', [0x38, 0, 1, 2, 3], 0x10203],
    ['four bytes, whose bits do not count', [0x3f, 0, 1, 2, 3], 0x10203],
  ]
  for (const [what, pointer, target] of pointers)
    it(`is bounded behind a pointer of ${what}, and read on after it`, () => {
      assert.deepEqual(recordOf([0, list(pointer, b)], [target, b]), ['b', 'b'])
      assert.equal(recordOf([0, list(pointer, b)], [target, endless]), undefined)
      assert.equal(recordOf([0, list(pointer, endless)], [target, b]), undefined)
    })

  it('is bounded after values of any size', () => {
    const text = (control: readonly number[], size: number): number[] => [...control, ...new Array(size).fill(0x78)]
    for (const value of [
      text([0x40], 0),
      text([0x5c], 28),
      text([0x5d, 0], 29),
      text([0x5d, 255], 284),
      text([0x5e, 0, 0], 285),
      text([0x5e, 1, 2], 285 + 0x102),
      text([0x5f, 0, 0, 0], 65_821),
      text([0x5f, 0, 1, 2], 65_821 + 0x102),
      // A boolean has no bytes; its size is its value.
      [1, 7],
      // A double, an unsigned number of two bytes, and one of eight.
      text([0x68], 8),
      text([0xa2], 2),
      text([8, 2], 8),
      [0xe1, ...b, ...b],
      list(b, b),
    ]) {
      assert.equal(recordOf([0, list(value, endless)]), undefined)
      const record = recordOf([0, list(value, b)])
      assert.equal((record as unknown[])?.[1], 'b')
    }
  })

  it('has at most 4096 values, those of maps counted twice', () => {
    const many = (count: number): number[] => [0x1e, 4, (count - 285) >> 8, (count - 285) & 255]
    const falses = (count: number): number[] => new Array(count).fill([0, 7]).flat()
    assert.equal((recordOf([0, [...many(4095), ...falses(4095)]]) as unknown[]).length, 4095)
    assert.equal(recordOf([0, [...many(4096), ...falses(4096)]]), undefined)
    const map = (count: number): number[] => [
      ...[0xfe, (count - 285) >> 8, (count - 285) & 255],
      ...Array.from({ length: count }, (_, i) => [0x42, 97 + (i % 26), 97 + ((i / 26) % 26), 0, 7]).flat(),
    ]
    assert.ok(recordOf([0, map(2047)]))
    assert.equal(recordOf([0, map(2048)]), undefined)
    // Also in the parts of parts.
    assert.equal(recordOf([0, list([...many(2047), ...falses(2047)], [...many(2047), ...falses(2047)], b)]), undefined)
    assert.ok(recordOf([0, list([...many(2045), ...falses(2045)], [...many(2045), ...falses(2045)])]))
  })
})

describe('the metadata of a MaxMind database', () => {
  const networks = { '1.2.3.0/24': { country: 'DE' }, '2001:db8::/32': { country: 'JP' } }
  const changed = (name: string, value: number, byte = 1): GeoDatabase => {
    const file = writeMmdb(networks)
    // The control byte of the number precedes its value.
    const at = file.lastIndexOf(name) + name.length + byte
    file[at] = value
    return new GeoDatabase(file)
  }
  const unusable = { code: 'FLEET_ERR_GEO_DATABASE', message: /metadata cannot be read/ }

  it('names version 2 of the format, and IPv4 or IPv6', () => {
    changed('binary_format_major_version', 2)
    for (const version of [1, 3]) assert.throws(() => changed('binary_format_major_version', version), unusable)
    changed('ip_version', 4)
    for (const version of [3, 5, 7]) assert.throws(() => changed('ip_version', version), unusable)
  })

  it('of IPv4 has no record for IPv6', () => {
    assert.deepEqual(changed('ip_version', 6).find('2001:db8::1'), { country: 'JP' })
    assert.equal(changed('ip_version', 4).find('2001:db8::1'), undefined)
  })

  it('has a tree that ends before the metadata', () => {
    assert.throws(() => changed('node_count', 255), unusable)
  })

  it('is a map of fewer than 15 entries right after the marker', () => {
    const file = writeMmdb(networks)
    const start = file.lastIndexOf('MaxMind.com') + 'MaxMind.com'.length
    for (const first of [0xef, 0xd8, 0xf0, 0x48, 0]) {
      const other = Buffer.from(file)
      other[start] = first
      assert.throws(() => new GeoDatabase(other), unusable, String(first))
    }
    assert.throws(() => new GeoDatabase(file.subarray(0, start)), unusable)
    assert.throws(() => new GeoDatabase(Buffer.from('x')), { message: /no MaxMind DB metadata/ })
  })
})

it('a file that cannot be read is named', async () => {
  await assert.rejects(GeoDatabase.open('/nowhere.mmdb'), {
    code: 'FLEET_ERR_GEO_DATABASE',
    message: /\/nowhere\.mmdb cannot be read/,
  })
  await assert.rejects(GeoDatabase.open('/'), { message: /\/ cannot be read/ })
})
