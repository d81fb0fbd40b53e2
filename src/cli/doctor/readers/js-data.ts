import { Cursor } from './js-cursor.ts'
import { type Token, tokensOf } from './js-tokens.ts'
import { binding, calculated, environment, isMembers, longest, member, unknown, type Value } from './js-values.ts'

const assignments = new Set([
  '=',
  '+=',
  '-=',
  '*=',
  '/=',
  '%=',
  '**=',
  '<<=',
  '>>=',
  '>>>=',
  '&=',
  '|=',
  '^=',
  '&&=',
  '||=',
  '??=',
  '++',
  '--',
])
/**
 * What a file exports, read without executing it: literals, constants, arithmetic, defaults of `process.env` (of which
 * nothing is set). Everything else is {@link unknown}.
 *
 * @throws SyntaxError for what is no JavaScript, or nested too deeply
 */
export function exportsOf(text: string): Value {
  return new Reader(tokensOf(text)).module()
}

/** The value of a JSON file, with the lines of its members. @throws SyntaxError */
export function jsonOf(text: string): Value {
  JSON.parse(text)
  return new Reader(tokensOf(text)).expression()
}

class Reader extends Cursor {
  readonly #scope: Map<string, Value>

  constructor(tokens: readonly Token[], scope = new Map<string, Value>(), depth = 0) {
    super(tokens, depth)
    this.#scope = scope
  }

  module(): Value {
    const changed = this.#assigned()
    let exported: Value = unknown
    const members = new Map<string, { value: Value; line: number }>()
    while (this.at < this.tokens.length) {
      const { line } = this.tokens[this.at] as Token
      if (this.takes('export', 'default')) exported = this.expression()
      else if (this.takes('module', '.', 'exports', '=')) exported = this.expression()
      else if (this.takes('module', '.', 'exports', '.') || this.takes('exports', '.')) {
        const name = this.next()?.text ?? ''
        if (this.takes('=')) members.set(name, { value: this.expression(), line })
      } else if (this.takes('const') || this.takes('let') || this.takes('var')) {
        const isExported = this.tokens[this.at - 2]?.text === 'export'
        for (const name of this.#declare(changed))
          if (isExported) members.set(name, { value: this.#scope.get(name), line })
      } else if (this.is('(') || this.is('[') || this.is('{')) this.skipGroup()
      else this.at++
    }
    return members.size > 0 ? members : exported
  }

  /** Names that get a value elsewhere than where they are declared. */
  #assigned(): ReadonlySet<string> {
    const names = new Set<string>()
    for (const [i, { kind, text }] of this.tokens.entries()) {
      if (kind !== 'name' || !assignments.has(this.tokens[i + 1]?.text ?? '')) continue
      if (!/^(?:const|let|var|,|\.)$/.test(this.tokens[i - 1]?.text ?? '')) names.add(text)
    }
    return names
  }

  #declare(changed: ReadonlySet<string>): string[] {
    const names: string[] = []
    do {
      if (this.is('{') || this.is('[')) {
        this.skipGroup()
        if (this.takes('=')) this.expression()
        continue
      }
      const name = this.next()?.text ?? ''
      const value = this.takes('=') ? this.expression() : undefined
      this.#scope.set(name, changed.has(name) ? unknown : value)
      names.push(name)
    } while (this.takes(','))
    return names
  }

  expression(): Value {
    return this.deeper(() => this.#conditional())
  }

  #conditional(): Value {
    const test = this.#binary(0)
    if (!this.takes('?')) return test
    const yes = this.expression()
    const no = this.takes(':') ? this.expression() : unknown
    return test === unknown ? unknown : test ? yes : no
  }

  #binary(least: number): Value {
    let left = this.#unary()
    for (;;) {
      const operator = this.peek()
      const power = operator && operator.kind !== 'string' ? (binding[operator.text] ?? 0) : 0
      if (!operator || !Object.hasOwn(binding, operator.text) || power <= least) return left
      this.at++
      const next = operator.text === '**' ? power - 1 : power
      left = calculated(
        operator.text,
        left,
        this.deeper(() => this.#binary(next)),
      )
    }
  }

  #unary(): Value {
    const token = this.peek()
    if (token?.kind === 'sign' && /^(?:[-+!~]|\+\+|--)$/.test(token.text)) {
      this.at++
      const value = this.deeper(() => this.#unary())
      if (value === unknown) return unknown
      if (token.text === '!') return !value
      return typeof value !== 'number' && typeof value !== 'string'
        ? unknown
        : token.text === '-'
          ? -value
          : token.text === '+'
            ? +value
            : unknown
    }
    if (token?.kind === 'name' && /^(?:typeof|void|delete|await|yield|new)$/.test(token.text)) {
      this.at++
      this.deeper(() => this.#unary())
      return unknown
    }
    return this.#postfix(this.#primary())
  }

  #postfix(start: Value): Value {
    let value = start
    for (;;) {
      if (this.takes('.') || this.takes('?.')) {
        if (this.is('(') || this.is('[')) continue
        value = member(value, this.next()?.text)
      } else if (this.takes('[')) {
        const key = this.expression()
        this.takes(']')
        value = typeof key === 'string' || typeof key === 'number' ? member(value, String(key)) : unknown
      } else if (this.is('(')) {
        this.skipGroup()
        value = unknown
      } else if (this.peek()?.kind === 'template' || this.is('++') || this.is('--')) {
        this.at++
        value = unknown
      } else return value
    }
  }

  #primary(): Value {
    const token = this.next()
    if (!token) return unknown
    if (token.kind === 'string') return token.text
    if (token.kind === 'number') return token.text.endsWith('n') ? unknown : Number(token.text.replaceAll('_', ''))
    if (token.kind === 'template') return this.#template(token)
    if (token.kind === 'name') return this.#named(token)
    if (token.text === '[') return this.#list()
    if (token.text === '{') return this.#object()
    if (token.text === '(') return this.#parenthesis()
    return unknown
  }

  #parenthesis(): Value {
    const start = this.at - 1
    const value = this.is(')') ? unknown : this.expression()
    const isOne = this.is(')')
    this.at = start
    this.skipGroup()
    return this.#body() || !isOne ? unknown : value
  }

  #named({ text }: Token): Value {
    if (text === 'async' || text === 'function' || text === 'class') {
      while (this.at < this.tokens.length && !this.is('{') && !this.is('=>') && !this.is(';')) {
        if (this.is('(')) this.skipGroup()
        else this.at++
      }
      if (!this.#body()) this.skipGroup()
      return unknown
    }
    if (this.#body()) return unknown
    if (text === 'process' && this.takes('.', 'env')) return environment
    if (/^(?:Number|String|Boolean)$/.test(text) && this.is('(')) return this.#converted(text)
    if (text === 'Object' && this.takes('.', 'freeze', '(')) {
      const value = this.expression()
      this.takes(')')
      return value
    }
    const constants = {
      true: true,
      false: false,
      null: null,
      undefined,
      NaN: Number.NaN,
      Infinity: Number.POSITIVE_INFINITY,
    }
    if (Object.hasOwn(constants, text)) return constants[text as keyof typeof constants]
    return this.#scope.has(text) ? this.#scope.get(text) : unknown
  }

  #converted(kind: string): Value {
    this.at++
    const value = this.is(')') ? undefined : this.expression()
    const isOne = this.takes(')')
    if (!isOne || value === unknown || (typeof value === 'object' && value !== null)) return unknown
    return kind === 'Number' ? Number(value) : kind === 'String' ? String(value) : Boolean(value)
  }

  /** The rest of an arrow function, if there is one. */
  #body(): boolean {
    if (!this.takes('=>')) return false
    if (this.is('{')) this.skipGroup()
    else this.expression()
    return true
  }

  #template({ text }: Token): Value {
    let value = ''
    for (let at = 0; at < text.length; at++) {
      const char = text[at] as string
      if (char === '\\') return unknown
      if (char !== '$' || text[at + 1] !== '{') {
        value += char
        continue
      }
      const end = text.indexOf('}', at)
      const inner = text.slice(at + 2, end)
      if (end === -1 || inner.includes('{') || inner.includes('`')) return unknown
      const part = new Reader(tokensOf(inner), this.#scope, this.depth + 1).expression()
      if (part === unknown || (typeof part === 'object' && part !== null)) return unknown
      value += String(part)
      if (value.length > longest) return unknown
      at = end
    }
    return value
  }

  #list(): Value {
    const items: Value[] = []
    while (this.at < this.tokens.length && !this.takes(']')) {
      if (this.takes(',')) continue
      const isSpread = this.takes('...')
      const value = this.expression()
      if (!isSpread) items.push(value)
      else if (Array.isArray(value) && items.length + value.length < longest) items.push(...value)
      else items.push(unknown)
      if (!this.is(',') && !this.is(']')) this.recover(']')
    }
    return items
  }

  #object(): Value {
    const members = new Map<string, { value: Value; line: number }>()
    while (this.at < this.tokens.length && !this.takes('}')) {
      if (this.takes(',')) continue
      if (this.takes('...')) {
        const value = this.expression()
        if (isMembers(value)) for (const [name, one] of value) members.set(name, one)
      } else this.#member(members)
      if (members.size > longest) throw new SyntaxError('an object has too many members')
      if (!this.is(',') && !this.is('}')) this.recover('}')
    }
    return members
  }

  #member(members: Map<string, { value: Value; line: number }>): void {
    const token = this.next()
    if (!token) return
    const { line } = token
    let key: Value = token.text
    if (token.text === '[' && token.kind === 'sign') {
      key = this.expression()
      this.takes(']')
    }
    const name = typeof key === 'string' || typeof key === 'number' ? String(key) : undefined
    if (this.takes(':')) {
      const value = this.expression()
      if (name !== undefined) members.set(name, { value, line })
    } else if (this.is(',') || this.is('}')) {
      if (name !== undefined)
        members.set(name, { value: this.#scope.has(name) ? this.#scope.get(name) : unknown, line })
    } else if (name !== undefined) members.set(name, { value: unknown, line })
  }
}
