import { dictionary } from '../../../base/dictionary.ts'

/** A value of HCL as far as it stands in the text; {@link Unknown} where it is computed. */
export type Value = string | number | boolean | null | Unknown | readonly Value[] | { readonly [name: string]: Value }

/** A reference such as `var.port`, or anything else that Terraform alone can work out. */
export class Unknown {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

export interface Attribute {
  readonly value: Value
  readonly line: number
}
export interface Block {
  readonly type: string
  readonly labels: readonly string[]
  readonly line: number
  readonly attributes: ReadonlyMap<string, Attribute>
  readonly blocks: readonly Block[]
  /** Line of the value behind a key anywhere within an attribute of this block: the first one of that name. */
  readonly keys: ReadonlyMap<string, number>
}

interface Token {
  readonly kind: 'word' | 'string' | 'number' | 'sign' | 'newline'
  readonly text: string
  readonly line: number
}

/** Everything but strings and heredocs, whose ends {@link stringEnd} and {@link heredocEnd} find. */
const pattern =
  /(\n)|#[^\n]*|\/\/[^\n]*|\/\*(?:[^*]|\*(?!\/))*(?:\*\/)?|<<-?(\w+)\n|(")|(-?\d+(?:\.\d+)?)|([A-Za-z_][\w.-]*)|(=>|==|!=|<=|>=|&&|\|\||[^\s])/g

function tokens(text: string): Token[] {
  const found: Token[] = []
  const next = new RegExp(pattern)
  let line = 1
  for (let match = next.exec(text); match; match = next.exec(text)) {
    const [, newline, heredoc, quote, number, word, sign] = match
    const start = next.lastIndex
    if (newline) found.push({ kind: 'newline', text: '\n', line })
    else if (quote) {
      const end = stringEnd(text, start)
      found.push({ kind: 'string', text: text.slice(start, end), line })
      next.lastIndex = text[end] === '"' ? end + 1 : end
    } else if (heredoc !== undefined) {
      const [end, after] = heredocEnd(text, start, heredoc)
      found.push({ kind: 'string', text: text.slice(start, end), line })
      next.lastIndex = after
    } else if (number !== undefined) found.push({ kind: 'number', text: number, line })
    else if (word !== undefined) found.push({ kind: 'word', text: word, line })
    else if (sign !== undefined) found.push({ kind: 'sign', text: sign, line })
    for (let at = text.indexOf('\n', match.index); at !== -1 && at < next.lastIndex; at = text.indexOf('\n', at + 1))
      line++
  }
  return found
}

/** Where a string ends: at its quote, else with the line or the file. Quotes and line ends in `${…}` belong to it. */
function stringEnd(text: string, start: number): number {
  let depth = 0
  for (let at = start; at < text.length; at++) {
    const char = text[at]
    if (char === '\\') at++
    else if (depth === 0 && char === '"') return at
    else if (char === '{' && (depth > 0 || text[at - 1] === '$' || text[at - 1] === '%')) depth++
    else if (char === '}' && depth > 0) depth--
    else if (depth === 0 && char === '\n') return at
  }
  return text.length
}

/** Where the text of a heredoc ends, and what comes after its last line. */
function heredocEnd(text: string, start: number, name: string): [end: number, after: number] {
  for (let at = start; at < text.length; ) {
    const stop = text.indexOf('\n', at)
    const end = stop < 0 ? text.length : stop
    if (text.slice(at, end).trim() === name) return [Math.max(start, at - 1), end]
    at = end + 1
  }
  return [text.length, text.length]
}

/**
 * The blocks of a Terraform file: structure, literals, lists, objects and `jsonencode(…)`. It judges no syntax, which
 * `terraform validate` does, and evaluates nothing.
 */
export function parseHcl(text: string): readonly Block[] {
  return new Parser(tokens(text)).body().blocks
}

const deepest = 100

class Parser {
  readonly #tokens: readonly Token[]
  #at = 0
  #depth = 0
  #keys = new Map<string, number>()

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  /** @throws when values and blocks are nested deeper than anything that a person writes */
  #deeper<T>(read: () => T): T {
    if (++this.#depth > deepest) throw new Error(`blocks and values are nested more than ${deepest} deep`)
    const result = read()
    this.#depth--
    return result
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
    const body = this.#deeper(() => this.body())
    this.#keys = outer
    return { type, labels, line, keys, ...body }
  }

  #expression(): Value {
    const start = this.#at
    const value = this.#term()
    // Something follows: an operator, an index, a condition. Then the whole of it is computed.
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

  #term(): Value {
    return this.#deeper(() => this.#value())
  }

  #value(): Value {
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

  #list(end: string): Value[] {
    const items: Value[] = []
    for (let token = this.#skip(); token && !is(token, end); token = this.#skip()) {
      if (is(token, ',')) this.#at++
      else items.push(this.#expression())
    }
    this.#at++
    return items
  }

  #object(): Value {
    const members = dictionary<Value>()
    for (let token = this.#skip(); token && !is(token, '}'); token = this.#skip()) {
      this.#at++
      if (is(token, ',')) continue
      if (is(this.#peek(), '=') || is(this.#peek(), ':')) {
        this.#at++
        if (!this.#keys.has(token.text)) this.#keys.set(token.text, token.line)
        const value = this.#expression()
        members[token.text] = value
        // `{ name = "DRAIN_DELAY", value = "…" }`: the variable's own line.
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
