import { readFile, stat } from 'node:fs/promises'
import { isIP } from 'node:net'
import { Reader } from 'mmdb-lib'
import { plainAddress } from '../base/client-address.ts'
import { FleetError } from '../base/errors.ts'

/** Larger files are rejected; GeoIP2-Enterprise has less than half of it. */
const maxFileBytes = 2 ** 30
/** Values of one record or of the metadata, those behind pointers counted each time; real records have about a hundred. */
const maxValues = 4096
/** Decoded values that are kept. A country database has a few hundred records. */
const maxCached = 10_000

const marker = Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1')
/** Between the search tree and the data section. */
const separatorBytes = 16

/**
 * A MaxMind DB file in memory, read by mmdb-lib. This class adds the bounds that the library lacks: a damaged or
 * malicious file of a few hundred bytes can expand to more values than memory holds.
 */
export class GeoDatabase {
  readonly #reader: Reader<never>
  readonly #cache = new Map<number, unknown>()
  /** The next value that is not cached is the record itself, not a part of one. */
  #atRecord = false

  /** @throws FLEET_ERR_GEO_DATABASE */
  constructor(file: Buffer) {
    const end = file.lastIndexOf(marker)
    if (end < 0) throw new FleetError('FLEET_ERR_GEO_DATABASE', 'it has no MaxMind DB metadata')
    try {
      const start = end + marker.length
      // A map of fewer than 15 entries. After any other byte the library may find another marker than this one.
      const first = file.readUInt8(start)
      if (first >> 4 !== 14 || first === 0xef) throw new RangeError('the metadata is not a map')
      assertBounded(file, start, start)
      let dataStart = 0
      this.#reader = new Reader(file, {
        cache: {
          get: (offset) => {
            const cached = this.#cache.get(Number(offset))
            if (cached === undefined && this.#atRecord) assertBounded(file, Number(offset), dataStart)
            this.#atRecord = false
            return cached
          },
          set: (offset, value) => {
            if (this.#cache.size >= maxCached) this.#cache.clear()
            this.#cache.set(Number(offset), value)
          },
        },
      })
      const { binaryFormatMajorVersion, ipVersion, nodeCount, searchTreeSize } = this.#reader.metadata
      dataStart = searchTreeSize + separatorBytes
      const isKnown = binaryFormatMajorVersion === 2 && (ipVersion === 4 || ipVersion === 6)
      if (!isKnown || !Number.isSafeInteger(nodeCount) || dataStart > end) throw new RangeError('unknown format')
    } catch (cause) {
      throw new FleetError('FLEET_ERR_GEO_DATABASE', 'its metadata cannot be read', { cause })
    }
  }

  /** @throws FLEET_ERR_GEO_DATABASE */
  static async open(path: string): Promise<GeoDatabase> {
    const unreadable = (cause: unknown): never => {
      throw new FleetError('FLEET_ERR_GEO_DATABASE', `${path} cannot be read`, { cause })
    }
    const { size } = await stat(path).catch(unreadable)
    if (size > maxFileBytes) throw new FleetError('FLEET_ERR_GEO_DATABASE', `${path} is larger than 1 GiB`)
    return new GeoDatabase(await readFile(path).catch(unreadable))
  }

  /**
   * The record of an address. Addresses of one network get the same object while it is cached.
   *
   * @returns undefined for an address without a record, and where the file is damaged
   */
  find(address: string): unknown {
    const plain = plainAddress(address) ?? ''
    const version = isIP(plain)
    if (version === 0 || (version === 6 && this.#reader.metadata.ipVersion === 4)) return undefined
    try {
      this.#atRecord = true
      return this.#reader.get(plain) ?? undefined
    } catch {
      return undefined
    }
  }
}

const pointer = 1
const map = 7
const array = 11
const boolean = 14

/**
 * Skips one value without decoding it. Sources: "MaxMind DB File Format Specification" 2.0, sections "Data Field Format"
 * and "Payload Size".
 *
 * @param section start of the section that pointers are relative to
 * @throws RangeError when the value has more than {@link maxValues} parts, or ends outside the file
 */
function assertBounded(file: Buffer, start: number, section: number): void {
  let left = maxValues
  const skip = (position: number): number => {
    if (--left < 0) throw new RangeError('too many values')
    let at = position
    const control = file.readUInt8(at++)
    const type = control >> 5 || file.readUInt8(at++) + 7
    if (type === pointer) {
      const bytes = ((control >> 3) & 3) + 1
      const high = bytes === 4 ? 0 : (control & 7) << (8 * bytes)
      skip(section + high + file.readUIntBE(at, bytes) + ([0, 2048, 526_336, 0][bytes - 1] as number))
      return at + bytes
    }
    let size = control & 31
    if (size >= 29) {
      const bytes = size - 28
      size = file.readUIntBE(at, bytes) + ([29, 285, 65_821][bytes - 1] as number)
      at += bytes
    }
    if (type === boolean) return at
    if (type !== map && type !== array) return at + size
    // The library allocates an array of the announced size before it reads its elements.
    const parts = type === map ? 2 * size : size
    if (parts > left) throw new RangeError('too many values')
    for (let i = 0; i < parts; i++) at = skip(at)
    return at
  }
  skip(start)
}
