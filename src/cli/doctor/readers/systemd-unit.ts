import type { Fact, Source } from '../facts.ts'

/** A line `Name=value` of a section. */
export interface Setting extends Fact<string> {
  readonly name: string
}

/** Settings that hold a list; an empty assignment removes the entries before it. */
const lists = new Set(['ExecStart', 'Environment', 'EnvironmentFile', 'PassEnvironment', 'LoadCredential'])

/** The section `[Service]` of a unit and its drop-ins, in their order. */
export class Unit {
  readonly #settings: readonly Setting[]

  constructor(sources: readonly Source[]) {
    this.#settings = sources.flatMap(settingsOf)
  }

  /** The last assignment; `undefined` when the last one is empty, which restores the default. */
  last(...names: readonly string[]): Setting | undefined {
    const found = this.#settings.findLast(({ name }) => names.includes(name))
    return found?.value === '' ? undefined : found
  }

  /** The entries of a list. */
  all(name: string): readonly Setting[] {
    const own = this.#settings.filter((setting) => setting.name === name)
    return own.slice(own.findLastIndex(({ value }) => value === '' && lists.has(name)) + 1)
  }
}

function settingsOf({ file, text }: Source): Setting[] {
  const settings: Setting[] = []
  let section = ''
  let joined = ''
  let line = 0
  for (const [index, physical] of text.split('\n').entries()) {
    const trimmed = physical.trim()
    // Comments between continued lines are skipped, too.
    if (/^[#;]/.test(trimmed)) continue
    if (joined === '') line = index + 1
    if (trimmed.endsWith('\\')) {
      joined += `${trimmed.slice(0, -1)} `
      continue
    }
    const whole = (joined + trimmed).trim()
    joined = ''
    const header = /^\[([^\]]*)\]$/.exec(whole)?.[1]
    if (header !== undefined) section = header
    const equals = whole.indexOf('=')
    if (equals > 0 && (section === 'Service' || section === ''))
      settings.push({ name: whole.slice(0, equals).trim(), value: whole.slice(equals + 1).trim(), file, line })
  }
  return settings
}

/** The words of a value: quotes are removed where a word begins with one, `\` escapes. */
export function unitWords(value: string): string[] {
  const words: string[] = []
  for (const [, double, single, plain] of value.matchAll(/"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|(\S+)/g))
    words.push((double ?? single ?? plain ?? '').replace(/\\(["'\\ ])/g, '$1'))
  return words
}

/** A text without specifiers; `undefined` when systemd replaces one, such as `%i`. */
export const withoutSpecifiers = (text: string): string | undefined =>
  /%(?:%%)*[^%]/.test(text.replaceAll('%%', '')) ? undefined : text.replaceAll('%%', '%')
