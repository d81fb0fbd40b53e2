import type { HeaderFields } from '../headers.ts'
import { parseTrailers } from './fields.ts'

/** Longest line of a chunk size with its extensions, in bytes. */
const maxLine = 1024
/** Most bytes of chunk extensions in one body: they have no use, and could be sent without end. */
const maxExtensions = 16 * 1024

/** Decodes the chunked coding (RFC 9112 section 7.1) from buffers of any size. */
export class ChunkedDecoder {
  /** Set once the last byte of the coding has been read. */
  trailers: HeaderFields | undefined
  readonly #maxTrailerBytes: number
  readonly #onData: (data: Buffer) => void
  /** Bytes left of the current chunk; -1 while a size line is read, -2 in the trailers. */
  #left = -1
  #afterData = false
  #line = ''
  #extensions = 0

  constructor(maxTrailerBytes: number, onData: (data: Buffer) => void) {
    this.#maxTrailerBytes = maxTrailerBytes
    this.#onData = onData
  }

  /** @returns the number of bytes that belong to the coding, less than `bytes.length` only at its end; -1 if it is invalid */
  read(bytes: Buffer): number {
    let at = 0
    while (at < bytes.length && !this.trailers) {
      if (this.#left > 0) {
        const end = Math.min(bytes.length, at + this.#left)
        this.#onData(bytes.subarray(at, end))
        this.#left -= end - at
        at = end
        if (this.#left === 0) {
          this.#left = -1
          this.#afterData = true
        }
        continue
      }
      const end = bytes.indexOf(10, at)
      const stop = end < 0 ? bytes.length : end + 1
      this.#line += bytes.toString('latin1', at, stop)
      at = stop
      if (this.#line.length > (this.#left === -2 ? this.#maxTrailerBytes : maxLine)) return -1
      if (end >= 0 && !this.#endLine()) return -1
    }
    return at
  }

  #endLine(): boolean {
    if (!this.#line.endsWith('\r\n')) return false
    // Trailers are collected until the empty line that ends them.
    if (this.#left === -2) return this.#endTrailers()
    const line = this.#line.slice(0, -2)
    this.#line = ''
    if (this.#afterData) {
      this.#afterData = false
      return line === ''
    }
    const digits = /^([\da-f]{1,12})(?:;[\t\x20-\x7e\x80-\xff]*)?$/i.exec(line)?.[1]
    if (digits === undefined) return false
    this.#extensions += line.length - digits.length
    if (this.#extensions > maxExtensions) return false
    const size = Number.parseInt(digits, 16)
    this.#left = size === 0 ? -2 : size
    return true
  }

  #endTrailers(): boolean {
    if (this.#line !== '\r\n' && !this.#line.endsWith('\r\n\r\n')) return true
    this.trailers = parseTrailers(this.#line.slice(0, -4))
    return this.trailers !== undefined
  }
}
