import type { Place } from '../facts.ts'

/** A directive of nginx, with its block when it has one. */
export interface Directive extends Place {
  readonly name: string
  readonly args: readonly string[]
  readonly block?: readonly Directive[]
}

interface Token {
  readonly text: string
  readonly line: number
  /** A quoted `{` does not open a block. */
  readonly quoted: boolean
}

/** Words, quotes, comments and `${…}`, as ngx_conf_read_token reads them. */
function tokens(text: string): Token[] {
  const found: Token[] = []
  let line = 1
  const pattern =
    /\n|#[^\n]*|"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|[{};]|(?:\$\{[^}\s]{0,128}\}|\\.|[^\s;{}"'])(?:\$\{[^}\s]{0,128}\}|\\.|[^\s;{}])*/gs
  for (const match of text.matchAll(pattern)) {
    const [whole, double, single] = match
    if (whole !== '\n' && !whole.startsWith('#')) {
      const quoted = double !== undefined || single !== undefined
      found.push({ text: double ?? single ?? whole, line, quoted })
    }
    line += whole.split('\n').length - 1
  }
  return found
}

/** Real configurations nest a handful of blocks; the limit protects the stack from generated files. */
const maxDepth = 100

/** The directives of one file. An unfinished block ends with the file; `nginx -t` reports it better. */
export function parseNginx(file: string, text: string): Directive[] {
  const stream = tokens(text)
  let at = 0
  const block = (depth: number): Directive[] => {
    if (depth > maxDepth) throw new Error(`blocks are nested more than ${maxDepth} deep`)
    const directives: Directive[] = []
    let words: Token[] = []
    const end = (inner?: Directive[]): void => {
      const [name, ...args] = words
      if (name)
        directives.push({ name: name.text, args: args.map(({ text }) => text), file, line: name.line, block: inner })
      words = []
    }
    for (; at < stream.length; at++) {
      const token = stream[at] as Token
      if (token.quoted || !/^[{};]$/.test(token.text)) words.push(token)
      else if (token.text === ';') end()
      else if (token.text === '{') {
        at++
        end(block(depth + 1))
      } else break
    }
    return directives
  }
  const all: Directive[] = []
  // Continue behind a stray `}`.
  for (; at < stream.length; at++) all.push(...block(0))
  return all
}
