/** A directive of nginx, with its block when it has one. */
export interface Directive {
  readonly name: string
  readonly args: readonly string[]
  readonly file: string
  readonly line: number
  readonly block?: readonly Directive[]
}

interface Token {
  readonly text: string
  readonly line: number
  /** A quoted `{` is no block. */
  readonly quoted: boolean
}

/** Words, quotes, comments and `${…}` as in nginx's own reader (ngx_conf_read_token). */
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

/** Real configurations nest a handful of blocks; a reader that follows them further can be made to run out of stack. */
const deepest = 100

/** The directives of one file; an unfinished block ends with the file, because `nginx -t` says more of it. */
export function parseNginx(file: string, text: string): Directive[] {
  const stream = tokens(text)
  let at = 0
  const block = (depth: number): Directive[] => {
    if (depth > deepest) throw new Error(`blocks are nested more than ${deepest} deep`)
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
  // A stray `}` ends a block that was never begun: go on behind it.
  for (; at < stream.length; at++) all.push(...block(0))
  return all
}
