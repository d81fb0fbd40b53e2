import { dictionary } from '../../../base/dictionary.ts'
/** A literal value of HCL, or {@link Unknown} where it is computed. */
export type HclValue =
  | string
  | number
  | boolean
  | null
  | Unknown
  | readonly HclValue[]
  | { readonly [name: string]: HclValue }

/** A reference such as `var.port`, or another expression that only Terraform can evaluate. */
export class Unknown {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

export interface Attribute {
  readonly value: HclValue
  readonly line: number
}
export interface Block {
  readonly type: string
  readonly labels: readonly string[]
  readonly line: number
  readonly attributes: ReadonlyMap<string, Attribute>
  readonly blocks: readonly Block[]
  /** Line of the first key of each name within the attributes of this block. */
  readonly keys: ReadonlyMap<string, number>
}

interface Token {
  readonly kind: 'word' | 'string' | 'number' | 'sign' | 'newline'
  readonly text: string
  readonly line: number
}

const word = /[A-Za-z_][\w.-]*/y
const number = /-?\d+(?:\.\d+)?/y
const sign = /=>|==|!=|<=|>=|&&|\|\||\S/y
const heredoc = /<<-?(\w{1,64})\n/y

/** Never backtracks, and so takes linear time for every file. */
function tokens(text: string): Token[] {
  const found: Token[] = []
  let line = 1
  let at = 0
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    return pattern.exec(text)
  }
  const until = (mark: string, from: number): number => {
    const end = text.indexOf(mark, from)
    return end === -1 ? text.length : end
  }
  let newline = until('\n', 0)
  while (at < text.length) {
    const add = (kind: Token['kind'], value: string, end: number): void => {
      found.push({ kind, text: value, line })
      at = end
    }
    const matched = (kind: Token['kind'], pattern: RegExp): boolean => {
      const [value] = match(pattern) ?? []
      if (value !== undefined) add(kind, value, at + value.length)
      return value !== undefined
    }
    const char = text[at] as string
    const begins = match(heredoc)
    if (char === '\n') add('newline', '\n', at + 1)
    else if (/\s/.test(char)) at++
    else if (char === '#' || text.startsWith('//', at)) at = until('\n', at)
    else if (text.startsWith('/*', at)) at = until('*/', at + 2) + 2
    else if (begins) {
      const from = at + begins[0].length
      const rest = new RegExp(`\\n[ \\t]*${begins[1]}\\b`, 'g')
      rest.lastIndex = from - 1
      const end = rest.exec(text)
      add('string', text.slice(from, end?.index ?? text.length), end ? rest.lastIndex : text.length)
    } else if (char === '"') {
      const end = stringEnd(text, at)
      add('string', text.slice(at + 1, end), end + 1)
    } else if (!matched('number', number) && !matched('word', word)) matched('sign', sign)
    at = Math.min(at, text.length)
    for (; newline < at; newline = until('\n', newline + 1)) line++
  }
  return found
}

/** Index of the closing quote; quotes within `${…}` do not count. */
function stringEnd(text: string, start: number): number {
  let depth = 0
  for (let at = start + 1; at < text.length; at++) {
    const char = text[at]
    if (char === '\\') at++
    else if (char === '"' && depth === 0) return at
    else if (char === '$' && text[at + 1] === '{') {
      depth++
      at++
    } else if (char === '{' && depth > 0) depth++
    else if (char === '}' && depth > 0) depth--
  }
  return text.length
}

/**
 * The blocks of a Terraform file: structure, literals, lists, objects and `jsonencode(…)`. It tolerates syntax errors, which
 * `terraform validate` reports, and evaluates no expressions.
 */
export function parseHcl(text: string): readonly Block[] {
  return new Parser(tokens(text)).body().blocks
}

class Parser {
  readonly #tokens: readonly Token[]
  #at = 0
  #keys = new Map<string, number>()

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  body(): { attributes: Map<string, Attribute>; blocks: Block[] } {
    const attributes = new Map<string, Attribute>()
    const blocks: Block[] = []
    for (let token = this.#next(); token && !is(token, '}'); token = this.#next()) {
      if (token.kind !== 'word') continue
      if (is(this.#peek(), '=')) {
        this.#at++
        this.#keys.set(token.text, token.line)
        attributes.set(token.text, { value: this.#expression(), line: token.line })
        continue
      }
      const labels: string[] = []
      for (let label = this.#peek(); label?.kind === 'string' || label?.kind === 'word'; label = this.#peek()) {
        labels.push(label.text)
        this.#at++
      }
      if (is(this.#peek(), '{')) {
        this.#at++
        blocks.push(this.#block(token, labels))
      }
    }
    return { attributes, blocks }
  }

  #block({ text: type, line }: Token, labels: string[]): Block {
    const outer = this.#keys
    const keys = new Map<string, number>()
    this.#keys = keys
    const body = this.body()
    this.#keys = outer
    return { type, labels, line, keys, ...body }
  }

  #expression(): HclValue {
    const start = this.#at
    const value = this.#term()
    // An operator, an index or a condition follows: the whole expression is computed.
    if (this.#ends(this.#peek())) return value
    let depth = 0
    for (let token = this.#peek(); token; token = this.#peek()) {
      if (depth === 0 && this.#ends(token)) break
      if (/^[([{]$/.test(token.text) && token.kind === 'sign') depth++
      if (/^[)\]}]$/.test(token.text) && token.kind === 'sign') depth--
      this.#at++
    }
    return new Unknown(
      this.#tokens
        .slice(start, this.#at)
        .map(({ text }) => text)
        .join(' '),
    )
  }

  #term(): HclValue {
    const token = this.#next()
    if (!token) return null
    if (token.kind === 'number') return Number(token.text)
    if (token.kind === 'string')
      return token.text.includes('${') ? new Unknown(token.text) : token.text.replaceAll('\\"', '"')
    if (is(token, '[')) return this.#list(']')
    if (is(token, '{')) return this.#object()
    if (token.kind !== 'word') return new Unknown(token.text)
    if (is(this.#peek(), '(')) {
      this.#at++
      const args = this.#list(')')
      return token.text === 'jsonencode' ? (args[0] ?? null) : new Unknown(`${token.text}(…)`)
    }
    return (
      { true: true, false: false, null: null }[token.text] ?? (token.text === 'null' ? null : new Unknown(token.text))
    )
  }

  #list(end: string): HclValue[] {
    const items: HclValue[] = []
    for (let token = this.#skip(); token && !is(token, end); token = this.#skip()) {
      if (is(token, ',')) this.#at++
      else items.push(this.#expression())
    }
    this.#at++
    return items
  }

  #object(): HclValue {
    const members = dictionary<HclValue>()
    for (let token = this.#skip(); token && !is(token, '}'); token = this.#skip()) {
      this.#at++
      if (is(token, ',')) continue
      if (is(this.#peek(), '=') || is(this.#peek(), ':')) {
        this.#at++
        if (!this.#keys.has(token.text)) this.#keys.set(token.text, token.line)
        const value = this.#expression()
        members[token.text] = value
        // `{ name = "DRAIN_DELAY", value = "…" }`: the line of the variable.
        if (token.text === 'name' && typeof value === 'string') this.#keys.set(`name=${value}`, token.line)
      }
    }
    this.#at++
    return members
  }

  #ends(token: Token | undefined): boolean {
    return token === undefined || token.kind === 'newline' || [')', ']', '}', ','].includes(token.text)
  }

  #skip(): Token | undefined {
    while (this.#peek()?.kind === 'newline') this.#at++
    return this.#peek()
  }

  #peek(): Token | undefined {
    return this.#tokens[this.#at]
  }

  #next(): Token | undefined {
    return this.#tokens[this.#at++]
  }
}

const is = (token: Token | undefined, sign: string): boolean => token?.kind === 'sign' && token.text === sign
