/** A word, sign or literal of JavaScript. */
export interface Token {
  readonly kind: 'name' | 'sign' | 'string' | 'template' | 'number' | 'other'
  /** A string without its quotes, and with its escapes resolved; a template as it stands, without its quotes. */
  readonly text: string
  readonly line: number
  /** Where it begins and ends in the file. */
  readonly start: number
  readonly end: number
}

/** Each pattern reads from one place on and never goes back more than a character, so that reading takes linear time. */
const patterns = {
  space: /(?:[\s\ufeff]|\/\/[^\n]*|#![^\n]*)+/y,
  name: /[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*/uy,
  number: /(?:0[xXbBoO][\da-fA-F_]{1,32}|(?:\d[\d_]{0,40}(?:\.[\d_]{0,40})?|\.\d[\d_]{0,40})(?:[eE][+-]?\d{1,3})?)n?/y,
  sign: /\.\.\.|=>|\?\?=|\|\|=|&&=|\*\*=|>>>=?|<<=|>>=|[=!]==?|\*\*|\?\?|\?\.(?!\d)|\|\||&&|<<|>>|<=|>=|\+\+|--|[-+*/%&|^]=|[-+*/%&|^!~<>=?:;,.(){}[\]@#]/y,
} as const

const escapes: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  b: '\b',
  f: '\f',
  v: '\v',
  0: '\0',
  '\n': '',
}
/** After these a `/` divides. */
const isOperand = (token: Token | undefined): boolean =>
  token !== undefined &&
  (token.kind === 'sign' ? /^[)\]}]$/.test(token.text) : !/^(?:return|typeof|case|in|of|void|delete)$/.test(token.text))

/** @throws SyntaxError for what is no JavaScript, naming the line */
export function tokensOf(text: string): Token[] {
  const tokens: Token[] = []
  let line = 1
  let at = 0
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at
    return pattern.exec(text)?.[0]
  }
  let newline = text.indexOf('\n')
  /** Goes on to `end`, and counts the lines. */
  const go = (end: number): void => {
    at = end
    for (; newline !== -1 && newline < at; newline = text.indexOf('\n', newline + 1)) line++
  }
  while (at < text.length) {
    const start = at
    const add = (kind: Token['kind'], end: number, value = text.slice(start, end)): void => {
      tokens.push({ kind, text: value, line, start, end })
      go(end)
    }
    const space = match(patterns.space)
    if (space !== undefined) {
      go(at + space.length)
      continue
    }
    const first = text[at] as string
    if (text.startsWith('/*', at)) {
      const end = text.indexOf('*/', at + 2)
      if (end === -1) throw unexpected(line)
      go(end + 2)
    } else if (first === '"' || first === "'") add('string', ...stringAt(text, at, line))
    else if (first === '`')
      add('template', templateEnd(text, at, line), text.slice(at + 1, templateEnd(text, at, line) - 1))
    else if (first === '/' && !isOperand(tokens.at(-1))) add('other', regexEnd(text, at, line))
    else {
      const [kind, word] =
        Object.entries({ name: patterns.name, number: patterns.number, sign: patterns.sign })
          .map(([name, pattern]) => [name, match(pattern)] as const)
          .find(([, found]) => found !== undefined && found !== '') ?? []
      if (kind === undefined || word === undefined) throw unexpected(line)
      add(kind as Token['kind'], at + word.length)
    }
  }
  return tokens
}

const unexpected = (line: number): SyntaxError => new SyntaxError(`line ${line} is no JavaScript that can be read`)

/** @returns where a string ends, and what it says */
function stringAt(text: string, start: number, line: number): [end: number, value: string] {
  let value = ''
  for (let at = start + 1; at < text.length; at++) {
    const char = text[at] as string
    if (char === text[start]) return [at + 1, value]
    if (char === '\n') break
    if (char !== '\\') {
      value += char
      continue
    }
    const next = text[++at] ?? ''
    const code = /^(?:x[\da-f]{2}|u[\da-f]{4})/i.exec(text.slice(at, at + 5))?.[0]
    if (code !== undefined) {
      value += String.fromCharCode(Number.parseInt(code.slice(1), 16))
      at += code.length - 1
    } else value += escapes[next] ?? next
  }
  throw unexpected(line)
}

/** Templates in templates are counted, not followed. */
function templateEnd(text: string, start: number, line: number): number {
  const open: ('`' | '{')[] = ['`']
  for (let at = start + 1; at < text.length; at++) {
    const char = text[at]
    if (char === '\\') at++
    else if (open.at(-1) === '`') {
      if (char === '`') open.pop()
      else if (char === '$' && text[at + 1] === '{') {
        open.push('{')
        at++
      }
    } else if (char === '`') open.push('`')
    else if (char === '{') open.push('{')
    else if (char === '}') open.pop()
    if (open.length === 0) return at + 1
  }
  throw unexpected(line)
}

function regexEnd(text: string, start: number, line: number): number {
  let isClass = false
  for (let at = start + 1; at < text.length && text[at] !== '\n'; at++) {
    const char = text[at]
    if (char === '\\') at++
    else if (char === '[') isClass = true
    else if (char === ']') isClass = false
    else if (char === '/' && !isClass) {
      while (/[a-z]/i.test(text[at + 1] ?? '')) at++
      return at + 1
    }
  }
  throw unexpected(line)
}
