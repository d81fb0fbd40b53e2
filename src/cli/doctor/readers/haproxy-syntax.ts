import { type Place, type Replacement, type Source, type Unjudged, unjudged } from '../facts.ts'
import { Conditions } from './haproxy-conditions.ts'

/** Characters; presets that contain presets can double with each line. */
const maxWord = 8192
const maxValue = 1024

const sectionNames =
  /^(?:global|defaults|frontend|backend|listen|resolvers|userlist|peers|cache|ring|program|http-errors|fcgi-app|mailers|log-forward|log-profile|crt-store|traces|acme)$/

export interface Line extends Place {
  readonly words: readonly string[]
  /** As it is written, without indentation. */
  readonly text: string
  /** The positions of words that contain a variable. */
  readonly variable: ReadonlySet<number>
}

export interface Section extends Line {
  readonly kind: string
  readonly name: string
  readonly lines: Line[]
}

type Environment = ReadonlyMap<string, string | undefined>

/**
 * Splits a line as HAProxy does: variables are expanded between double quotes only, nothing is special between single quotes, and `#`
 * starts a comment anywhere else.
 */
export function splitLine(text: string, environment: Environment): { words: string[]; variable: Set<number> } {
  const words: string[] = []
  const variable = new Set<number>()
  let word: string | undefined
  let quote = ''
  for (let at = 0; at < text.length; at++) {
    const char = text[at] as string
    if (quote === '' && char === '#') break
    if (quote === '' && /\s/.test(char)) {
      if (word !== undefined) words.push(word)
      word = undefined
      continue
    }
    word ??= ''
    const start: string = word
    const add = (more: string): void => {
      if (start.length < maxWord) word = start + more
    }
    if (quote === char) quote = ''
    else if (quote === '' && (char === '"' || char === "'")) quote = char
    else if (char === '\\' && quote !== "'") add(text[++at] ?? '')
    else if (char === '$' && quote === '"') {
      const [whole, name = '', byDefault] = variableAt(text, at)
      variable.add(words.length)
      add((whole === '' ? char : (environment.get(name) ?? byDefault ?? whole)).slice(0, maxWord))
      at += Math.max(whole.length - 1, 0)
    } else add(char)
  }
  if (word !== undefined) words.push(word)
  return { words, variable }
}

const pattern = /\$(?:(\w+)|\{(\w+)(?:\[\*\])?(?:-([^}"]{0,1024}))?\})/y

function variableAt(text: string, at: number): [whole: string, name?: string, byDefault?: string] {
  pattern.lastIndex = at
  const match = pattern.exec(text)
  return match ? [match[0], match[1] ?? match[2], match[3]] : ['']
}

/** The sections of a file. Branches whose condition does not hold are skipped; both are read if it is not known. */
export function sectionsOf({ file, text }: Source, given: Environment): { sections: Section[]; skipped: Unjudged[] } {
  const environment = new Map(given)
  const conditions = new Conditions()
  const sections: Section[] = []
  const skipped: Unjudged[] = []
  for (const [index, content] of text.split('\n').entries()) {
    const place = { file, line: index + 1 }
    const { words, variable } = splitLine(content, environment)
    const [first = '', second = '', third = ''] = words
    if (first === '') continue
    if (first.startsWith('.')) {
      const reason = conditions.meet(first, content, environment)
      if (reason) skipped.push(unjudged(place, reason))
      continue
    }
    if (!conditions.holds) continue
    const line = { words, variable, text: content.trim(), ...place }
    if (sectionNames.test(first)) sections.push({ ...line, kind: first, name: nameOf(words), lines: [] })
    else sections.at(-1)?.lines.push(line)
    const isSet = first === 'setenv' || (first === 'presetenv' && environment.get(second) === undefined)
    if (isSet && third.length <= maxValue) environment.set(second, third)
    if (first === 'unsetenv') environment.delete(second)
  }
  return { sections, skipped }
}

const nameOf = ([, name = '', from]: readonly string[]): string => (name === 'from' && from !== undefined ? '' : name)

/** The change that adds a line to a section, or below any line. */
export const lineAfter = ({ text: from }: Line, text: string): Replacement => ({ from, to: `${from}\n  ${text}` })
