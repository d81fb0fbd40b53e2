/** Names that objects inherit, and values at the edges of number types. */
const names = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'length', 'id', 'name', '']
const numbers = [
  0,
  -0,
  1,
  -1,
  0.5,
  255,
  65_536,
  2 ** 31,
  2 ** 53,
  -(2 ** 53),
  1e308,
  Number.NaN,
  Number.POSITIVE_INFINITY,
]
const texts = [
  '',
  ' ',
  '/',
  '..',
  '%',
  '%00',
  '\0',
  '\n',
  '\r\n',
  '\u2028',
  '\ud800',
  'a'.repeat(300),
  '-1',
  '1e9',
  'true',
]

/**
 * Reads decisions from bytes, so that a structured value has a byte string that reproduces and minimises it. When the
 * bytes are used up, every further decision is the first one.
 */
export class Choices {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length
  }

  byte(): number {
    return this.#bytes[this.#at++] ?? 0
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    if (limit <= 256) return this.byte() % limit
    return ((this.byte() << 16) | (this.byte() << 8) | this.byte()) % limit
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T
  }

  /** A piece of the bytes, as Latin-1 text. */
  text(longest = 32): string {
    const length = this.below(longest + 1)
    const text = this.#bytes.toString('latin1', this.#at, this.#at + length)
    this.#at += length
    return text
  }

  /** The remaining bytes. */
  rest(): Buffer {
    const rest = this.#bytes.subarray(this.#at)
    this.#at = this.#bytes.length
    return rest
  }

  /** Any value that a caller without types may pass. @param json only what JSON can express */
  value(json = false, depth = 0): unknown {
    switch (this.below(depth > 4 ? 6 : json ? 9 : 14)) {
      case 0:
        return json ? null : undefined
      case 1:
        return this.pick([true, false, null])
      case 2:
        return this.pick(json ? numbers.filter(Number.isFinite) : numbers)
      case 3:
        return this.pick(texts)
      case 4:
        return this.text()
      case 5:
        return this.below(70_000)
      case 6:
      case 7: {
        const entries = Array.from({ length: this.below(4) }, () => [this.name(), this.value(json, depth + 1)] as const)
        // `Object.fromEntries` would define `__proto__`; so does JSON.parse, which is how values arrive.
        return Object.fromEntries(entries)
      }
      case 8:
        return Array.from({ length: this.below(4) }, () => this.value(json, depth + 1))
      case 9:
        return this.pick([() => 1, Symbol('fuzz'), 10n, new Date(Number.NaN), new Map(), new Error('fuzz'), /x/])
      case 10:
        return Object.create(null)
      case 11:
        return new (class Other {})()
      case 12:
        return Buffer.from(this.text())
      default:
        return [[[[this.value(json, depth + 1)]]]]
    }
  }

  name(): string {
    return this.below(3) === 0 ? this.text(8) : this.pick(names)
  }
}
