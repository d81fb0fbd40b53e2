import type { Place, Source } from '../facts.ts'

/** A directive of nginx, with its block when it has one. */
export interface Directive extends Place {
  readonly name: string
  readonly args: readonly string[]
  readonly block?: readonly Directive[]
}

interface Token {
  readonly text: string
  readonly line: number
  /** `{`, `}` or `;` outside quotes, or a word. */
  readonly kind: 'word' | '{' | '}' | ';'
}

/** Real configurations nest a handful of blocks; the limit protects the stack from generated files. */
const maxDepth = 100

const syntaxError = (message: string, line: number): Error => Object.assign(new Error(message), { line })

/** Escapes that nginx resolves; it keeps the backslash of others, as in `\.` of a pattern. */
const escapes = new Map(Object.entries({ '"': '"', "'": "'", '\\': '\\', t: '\t', r: '\r', n: '\n' }))

/**
 * Splits a file as ngx_conf_read_token does: quotes and comments start only where a word starts, `{` ends a word unless it follows `$`,
 * and `}` within a word belongs to it.
 */
class Scanner {
  readonly #text: string
  #at = 0
  #line = 1

  constructor(text: string) {
    this.#text = text
  }

  get line(): number {
    return this.#line
  }

  next(): Token | undefined {
    this.#skipSpace()
    const char = this.#text[this.#at]
    if (char === undefined) return undefined
    const line = this.#line
    if (char === ';' || char === '{' || char === '}') {
      this.#at++
      return { text: char, line, kind: char }
    }
    return { text: char === '"' || char === "'" ? this.#quoted(char) : this.#word(), line, kind: 'word' }
  }

  /** Skips the body of a block in Lua, up to its `}`. Braces in its strings and comments do not count. */
  skipBlock(): void {
    const tokens = /[{}\n]|--\[\[|--[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g
    tokens.lastIndex = this.#at
    let depth = 1
    for (let match = tokens.exec(this.#text); match; match = tokens.exec(this.#text)) {
      const [token] = match
      if (token === '\n') this.#line++
      if (token === '{') depth++
      if (token === '}') depth--
      if (token === '--[[') {
        const end = this.#text.indexOf(']]', tokens.lastIndex)
        if (end === -1) break
        this.#line += this.#text.slice(match.index, end).split('\n').length - 1
        tokens.lastIndex = end + 2
      }
      this.#at = tokens.lastIndex
      if (depth === 0) return
    }
    throw syntaxError('unexpected end of file, expecting "}"', this.#line)
  }

  #skipSpace(): void {
    for (; ; this.#at++) {
      const char = this.#text[this.#at]
      if (char === '\n') this.#line++
      else if (char === '#') {
        const end = this.#text.indexOf('\n', this.#at)
        this.#at = (end === -1 ? this.#text.length : end) - 1
      } else if (char !== ' ' && char !== '\t' && char !== '\r') return
    }
  }

  #quoted(quote: string): string {
    const start = this.#line
    let text = ''
    for (this.#at++; ; this.#at++) {
      const char = this.#text[this.#at]
      if (char === undefined) throw syntaxError(`the quote of line ${start} does not end`, start)
      if (char === quote) break
      text += this.#unescaped(char)
    }
    this.#at++
    const next = this.#text[this.#at]
    if (next !== undefined && !/[ \t\r\n;{)]/.test(next))
      throw syntaxError(`unexpected ${JSON.stringify(next)} after a quote`, this.#line)
    return text
  }

  #word(): string {
    let text = ''
    for (let previous = ''; ; this.#at++) {
      const char = this.#text[this.#at]
      if (char === undefined || /[ \t\r\n;]/.test(char) || (char === '{' && previous !== '$')) return text
      text += this.#unescaped(char)
      // `\$` is a dollar, not the start of a variable.
      previous = previous === '$' && char === '{' ? '$' : char === '\\' ? '' : char
      if (char === '{') previous = ''
    }
  }

  /** The character at the position, or that of an escape, whose second half it moves to. */
  #unescaped(char: string): string {
    if (char === '\n') this.#line++
    if (char !== '\\') return char
    const escaped = this.#text[this.#at + 1]
    if (escaped === undefined) return char
    this.#at++
    if (escaped === '\n') this.#line++
    return escapes.get(escaped) ?? char + escaped
  }
}

/** Blocks in Lua, which may contain any text. */
const isForeign = (name: string): boolean => name.endsWith('_by_lua_block')

/** @throws an Error with the `line` of the first syntax error, as `nginx -t` */
export function parseNginx(file: string, text: string): Directive[] {
  const scanner = new Scanner(text)
  const parseBlock = (depth: number): Directive[] => {
    if (depth > maxDepth) throw syntaxError(`blocks are nested more than ${maxDepth} deep`, scanner.line)
    const directives: Directive[] = []
    let words: Token[] = []
    for (;;) {
      const token = scanner.next()
      if (token?.kind === 'word') {
        words.push(token)
        continue
      }
      const [first, ...rest] = words
      words = []
      if (token === undefined || token.kind === '}') {
        if (first)
          throw syntaxError(`unexpected ${token ? '"}"' : 'end of file, expecting ";"'}`, token?.line ?? first.line)
        if (token === undefined && depth > 0) throw syntaxError('unexpected end of file, expecting "}"', scanner.line)
        if (token && depth === 0) throw syntaxError('unexpected "}"', token.line)
        return directives
      }
      if (!first) throw syntaxError(`unexpected "${token.kind}"`, token.line)
      let block: Directive[] | undefined
      if (token.kind === '{' && isForeign(first.text)) scanner.skipBlock()
      else if (token.kind === '{') block = parseBlock(depth + 1)
      directives.push({ name: first.text, args: rest.map((word) => word.text), file, line: first.line, block })
    }
  }
  return parseBlock(0)
}

/** Placeholders of other programs: Jinja, Helm, consul-template, ERB, FreeMarker. A comment or a Lua block may have the same characters. */
export const isTemplate = (text: string): boolean => {
  const code = text.replace(/^[ \t]*#.*$/gm, '')
  return !code.includes('_by_lua_block') && /\{\{[^{}'"]{0,200}\}\}|\{%[^%]{0,200}%\}|<%[^%]{0,200}%>|<#\w/.test(code)
}

const marker = /^# configuration file (.+):$/

/** The files within the output of `nginx -T`; the first is the main file. `undefined` for any other text. */
export function dumpedFiles({ text }: Source): Source[] | undefined {
  if (!/^# configuration file .+:$/m.test(text)) return undefined
  const files: { file: string; lines: string[] }[] = []
  for (const line of text.split('\n')) {
    const file = marker.exec(line.trimEnd())?.[1]
    if (file !== undefined) files.push({ file, lines: [] })
    // Messages of nginx, which `2>&1` adds.
    else if (!/^nginx: (?:the )?configuration file /.test(line)) files.at(-1)?.lines.push(line)
  }
  return files.map(({ file, lines }) => ({ file, text: lines.join('\n') }))
}
