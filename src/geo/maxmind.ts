import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { FleetError } from '../base/errors.ts'

type Value = string | number | bigint | boolean | Buffer | Value[] | { [key: string]: Value }

const marker = Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1')
/** Between the search tree and the data section. */
const separatorBytes = 16
/** Values and bytes of one record, and levels in each other; a record of a real file has a hundred values in 2 KB. */
const [largestValue, deepestValue] = [65_536, 64]

/**
 * Reads a MaxMind DB file (GeoLite2, GeoIP2, DB-IP, IPinfo, …) and looks addresses up in memory.
 * Source: "MaxMind DB File Format Specification", version 2.0.
 */
export class MaxmindReader {
  readonly #file: Buffer
  readonly #nodes: number
  readonly #recordBits: number
  readonly #data: number
  /** Where IPv4 addresses begin in a tree of IPv6 addresses: beneath 96 zero bits. */
  readonly #ipv4Start: number
  readonly #ipVersion: number
  #budget = 0

  /** @throws FLEET_ERR_GEO_DATABASE when it is no such file, or a broken one */
  constructor(file: Buffer) {
    this.#file = file
    const end = file.lastIndexOf(marker)
    if (end < 0) throw new FleetError('FLEET_ERR_GEO_DATABASE', 'it has no MaxMind DB metadata')
    try {
      const metadata = this.#value(end + marker.length, end + marker.length) as Record<string, number>
      this.#nodes = metadata.node_count ?? 0
      this.#recordBits = metadata.record_size ?? 0
      this.#ipVersion = metadata.ip_version ?? 0
      this.#data = (this.#nodes * this.#recordBits) / 4 + separatorBytes
      if (metadata.binary_format_major_version !== 2 || ![24, 28, 32].includes(this.#recordBits) || this.#data > end) {
        throw new RangeError('unknown format')
      }
      this.#ipv4Start = 0
      if (this.#ipVersion === 6) {
        let node = 0
        for (let i = 0; i < 96 && node < this.#nodes; i++) node = this.#record(node, 0)
        this.#ipv4Start = node
      }
    } catch (cause) {
      throw new FleetError('FLEET_ERR_GEO_DATABASE', 'its metadata cannot be read', { cause })
    }
  }

  /** @throws FLEET_ERR_GEO_DATABASE */
  static async open(path: string): Promise<MaxmindReader> {
    const file = await readFile(path).catch((cause: unknown) => {
      throw new FleetError('FLEET_ERR_GEO_DATABASE', `${path} cannot be read`, { cause })
    })
    return new MaxmindReader(file)
  }

  /** Number of the record for an address; undefined when there is none. Equal numbers mean equal records. */
  find(address: string): number | undefined {
    const bytes = addressBytes(address)
    if (!bytes || (bytes.length === 16 && this.#ipVersion === 4)) return undefined
    let node = bytes.length === 4 ? this.#ipv4Start : 0
    for (let bit = 0; bit < bytes.length * 8 && node < this.#nodes; bit++) {
      node = this.#record(node, ((bytes[bit >> 3] as number) >> (7 - (bit & 7))) & 1)
    }
    return node > this.#nodes ? node : undefined
  }

  /** The record of that number; undefined when the file is broken there. */
  get(record: number): Value | undefined {
    try {
      return this.#value(record - this.#nodes - separatorBytes + this.#data, this.#data)
    } catch (error) {
      if (error instanceof RangeError) return undefined
      throw error
    }
  }

  #record(node: number, side: number): number {
    const file = this.#file
    const at = (node * this.#recordBits) / 4
    if (this.#recordBits === 24) return file.readUIntBE(at + side * 3, 3)
    if (this.#recordBits === 32) return file.readUInt32BE(at + side * 4)
    // 28 bits: the middle byte holds the four highest bits of both sides.
    const middle = file.readUInt8(at + 3)
    return side === 0
      ? ((middle >> 4) << 24) | file.readUIntBE(at, 3)
      : ((middle & 15) << 24) | file.readUIntBE(at + 4, 3)
  }

  /** @throws RangeError for one that is broken, or larger than any record is: pointers can make much out of few bytes */
  #value(at: number, section: number): Value {
    this.#budget = largestValue
    return this.#decode(at, section, 0)[0]
  }

  /** @returns the value at `at` and where the next one begins */
  #decode(at: number, section: number, depth: number): [Value, number] {
    if (this.#budget-- <= 0 || depth > deepestValue) throw new RangeError('too large')
    const file = this.#file
    const control = file.readUInt8(at++)
    let type = control >> 5
    if (type === 1) {
      const bytes = ((control >> 3) & 3) + 1
      const high = bytes === 4 ? 0 : (control & 7) << (8 * bytes)
      const pointer = high + file.readUIntBE(at, bytes) + ([0, 2048, 526_336, 0][bytes - 1] as number)
      return [this.#decode(section + pointer, section, depth + 1)[0], at + bytes]
    }
    if (type === 0) type = file.readUInt8(at++) + 7
    let size = control & 31
    if (size >= 29) {
      const bytes = size - 28
      size = file.readUIntBE(at, bytes) + ([29, 285, 65_821][bytes - 1] as number)
      at += bytes
    }
    if (type === 7) return this.#decodeMap(at, size, section, depth + 1)
    if (type === 11) return this.#decodeArray(at, size, section, depth + 1)
    if (type === 14) return [size !== 0, at]
    this.#budget -= size
    if (this.#budget < 0 || at + size > file.length) throw new RangeError('beyond the end')
    return [scalar(type, file.subarray(at, at + size)), at + size]
  }

  #decodeMap(start: number, size: number, section: number, depth: number): [Value, number] {
    const map: { [key: string]: Value } = {}
    let at = start
    for (let i = 0; i < size; i++) {
      const [key, afterKey] = this.#decode(at, section, depth)
      const [value, afterValue] = this.#decode(afterKey, section, depth)
      if (key !== '__proto__') map[String(key)] = value
      at = afterValue
    }
    return [map, at]
  }

  #decodeArray(start: number, size: number, section: number, depth: number): [Value, number] {
    const array: Value[] = []
    let at = start
    for (let i = 0; i < size; i++) {
      const [value, after] = this.#decode(at, section, depth)
      array.push(value)
      at = after
    }
    return [array, at]
  }
}

function scalar(type: number, bytes: Buffer): Value {
  if (type === 2) return bytes.toString('utf8')
  if (type === 3) return bytes.readDoubleBE()
  if (type === 4) return bytes
  if (type === 8) return bytes.length === 0 ? 0 : bytes.readIntBE(0, bytes.length)
  if (type === 9 || type === 10) return bytes.length === 0 ? 0n : BigInt(`0x${bytes.toString('hex')}`)
  if (type === 15) return bytes.readFloatBE()
  if (type === 5 || type === 6) return bytes.length === 0 ? 0 : bytes.readUIntBE(0, bytes.length)
  throw new RangeError(`unknown type ${type}`)
}

/** 4 or 16 bytes; IPv4 in IPv6 (`::ffff:1.2.3.4`) counts as IPv4. */
function addressBytes(address: string): number[] | undefined {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '')
  if (isIP(plain) === 4) return plain.split('.').map(Number)
  if (isIP(plain) !== 6) return undefined
  const [before = '', after] = plain.replace(/%.*/, '').split('::')
  const words = (text: string): number[] =>
    text
      .split(':')
      .filter((word) => word !== '')
      .flatMap((word) => {
        if (!word.includes('.')) return [Number.parseInt(word, 16)]
        const [a = 0, b = 0, c = 0, d = 0] = word.split('.').map(Number)
        return [(a << 8) | b, (c << 8) | d]
      })
  const head = words(before)
  const tail = words(after ?? '')
  const all = [...head, ...Array<number>(8 - head.length - tail.length).fill(0), ...tail]
  return all.flatMap((word) => [word >> 8, word & 255])
}
