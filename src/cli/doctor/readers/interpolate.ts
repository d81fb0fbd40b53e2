/** The value of a variable: a text, or whether it may be set where the files do not tell. */
export type Lookup = (name: string) => string | undefined

/** A value with variables may not be nested deeper, nor grow longer. */
const [maxDepth, maxLength] = [32, 65_536]

class Malformed extends Error {}

/**
 * Interpolates `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`, `${NAME:+other}` and `$$` as the Compose
 * specification defines them, nested ones too.
 *
 * @param lookup `undefined`: the files do not set the variable. The shell that runs Compose may: without a default the result is unknown
 * @returns `undefined` when it is unknown; the text itself when it is not a valid template, which Compose rejects
 */
export function interpolate(text: string, lookup: Lookup): string | undefined {
  if (!text.includes('$')) return text
  try {
    const parser = new Template(text, lookup)
    const result = parser.read(0, false)
    return parser.isUnknown ? undefined : result
  } catch (error) {
    if (error instanceof Malformed) return text
    throw error
  }
}

const nameStart = /[A-Za-z_]/
const nameRest = /\w/

class Template {
  isUnknown = false
  readonly #text: string
  readonly #lookup: Lookup
  #at = 0
  #length = 0

  constructor(text: string, lookup: Lookup) {
    this.#text = text
    this.#lookup = lookup
  }

  /** Reads to the end, or to the `}` that ends a default. */
  read(depth: number, isNested: boolean): string {
    if (depth > maxDepth) throw new Malformed()
    let result = ''
    for (;;) {
      const end = this.#text.indexOf('$', this.#at)
      const brace = isNested ? this.#text.indexOf('}', this.#at) : -1
      if (isNested && brace === -1) throw new Malformed()
      if (end === -1 || (brace !== -1 && brace < end)) {
        const stop = brace === -1 ? this.#text.length : brace
        result += this.#text.slice(this.#at, stop)
        this.#at = isNested ? stop + 1 : stop
        return result
      }
      result += this.#text.slice(this.#at, end)
      this.#at = end + 1
      result += this.#substitution(depth)
      this.#length += result.length
      if (this.#length > maxLength * maxDepth) throw new Malformed()
    }
  }

  #substitution(depth: number): string {
    const next = this.#text[this.#at] ?? ''
    if (next === '$') {
      this.#at++
      return '$'
    }
    if (next !== '{') return this.#value(this.#name())
    this.#at++
    const name = this.#name()
    const value = this.#lookup(name)
    const operator = /^(?::?[-?+]|\})/.exec(this.#text.slice(this.#at, this.#at + 2))?.[0]
    if (operator === undefined) throw new Malformed()
    this.#at += operator.length
    if (operator === '}') return this.#value(name)
    const isSet = value !== undefined && (value !== '' || operator.length === 1)
    const before = this.isUnknown
    const alternative = this.read(depth + 1, true)
    const takesOther = operator.endsWith('+') ? isSet : operator.endsWith('-') && !isSet
    if (takesOther) return alternative
    // What the alternative lacks does not matter.
    this.isUnknown = before
    if (isSet) return operator.endsWith('+') ? '' : value
    if (operator.endsWith('?') || value === undefined) this.isUnknown = true
    return ''
  }

  #value(name: string): string {
    const value = this.#lookup(name)
    if (value === undefined) this.isUnknown = true
    return value ?? ''
  }

  #name(): string {
    const start = this.#at
    if (!nameStart.test(this.#text[start] ?? '')) throw new Malformed()
    while (nameRest.test(this.#text[this.#at] ?? '')) this.#at++
    return this.#text.slice(start, this.#at)
  }
}
