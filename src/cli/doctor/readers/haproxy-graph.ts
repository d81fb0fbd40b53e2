import type { Line, Section } from './haproxy-syntax.ts'

/** A rule that sends requests to a backend. */
export interface Route {
  readonly from: ProxySection
  /** The condition, with the definitions of its ACLs; empty for the default. */
  readonly condition: string
}

/** A server with the parameters that are in effect: its own, then those of `default-server` above it. */
export interface Server {
  readonly line: Line
  readonly address: string
  /** The line with a parameter, its own first. */
  holder(parameter: string): Line | undefined
  /** The value of a parameter. */
  value(parameter: string): string | undefined
  has(parameter: string): boolean
}

const indexes = new WeakMap<readonly Line[], Map<string, Line[]>>()

/** The lines that start with a word. */
function startingWith(lines: readonly Line[], word: string): readonly Line[] {
  const index = indexes.get(lines) ?? Map.groupBy(lines, ({ words }) => words[0] ?? '')
  indexes.set(lines, index)
  return index.get(word) ?? []
}

/** A `defaults` section, with the lines of those that it is derived from. */
interface Defaults {
  readonly lines: readonly Line[]
  readonly section?: Section
}

/** A frontend, backend or listen section with the lines that it inherits. */
export class ProxySection {
  readonly section: Section
  /** The lines of the defaults that it uses, the outermost first. */
  readonly inherited: readonly Line[]
  /** The defaults that it uses itself. */
  readonly defaults: Section | undefined
  readonly routes: Route[] = []
  #acls: ReadonlyMap<string, readonly Line[]> | undefined

  constructor(section: Section, { lines, section: defaults }: Defaults) {
    this.section = section
    this.inherited = lines
    this.defaults = defaults
  }

  get name(): string {
    return `${this.section.kind} ${this.section.name}`
  }

  get isHttp(): boolean {
    return this.last('mode')?.words[1] === 'http'
  }

  get accepts(): boolean {
    return this.section.kind !== 'backend'
  }

  get binds(): readonly Line[] {
    const own = startingWith(this.section.lines, 'bind')
    // `listen stats :8404`, the old form.
    return this.section.words[2]?.includes(':') ? [this.section, ...own] : own
  }

  /** The lines that start with a word, the inherited ones first. */
  all(word: string): readonly Line[] {
    return [...startingWith(this.inherited, word), ...startingWith(this.section.lines, word)]
  }

  /** The ACLs by name. */
  get acls(): ReadonlyMap<string, readonly Line[]> {
    this.#acls ??= Map.groupBy(this.all('acl'), ({ words }) => words[1] ?? '')
    return this.#acls
  }

  /** The last line that starts with the words: it overrides those above it, and inherited ones. */
  last(...words: string[]): Line | undefined {
    const matches = (line: Line): boolean => words.every((word, i) => line.words[i] === word)
    const [first = ''] = words
    return (
      startingWith(this.section.lines, first).findLast(matches) ?? startingWith(this.inherited, first).findLast(matches)
    )
  }

  /** The option, unless `no option` follows it. */
  option(name: string): Line | undefined {
    for (const lines of [this.section.lines, this.inherited]) {
      const on = startingWith(lines, 'option').findLast(({ words }) => words[1] === name)
      const off = startingWith(lines, 'no').findLast(({ words }) => words[1] === 'option' && words[2] === name)
      if (on && on.line > (off?.line ?? 0)) return on
      if (off) return undefined
    }
    return undefined
  }

  get servers(): readonly Server[] {
    const defaults: Line[] = [...startingWith(this.inherited, 'default-server')]
    const found: Server[] = []
    for (const line of this.section.lines) {
      if (line.words[0] === 'default-server') defaults.push(line)
      const skip = line.words[0] === 'server' ? 3 : line.words[0] === 'server-template' ? 4 : 0
      if (skip > 0) found.push(server(line, skip, [...defaults]))
    }
    return found
  }
}

function server(line: Line, skip: number, defaults: readonly Line[]): Server {
  const own = { line, words: line.words.slice(skip) }
  const all = [own, ...defaults.map((one) => ({ line: one, words: one.words.slice(1) })).reverse()]
  const find = (name: string): (typeof all)[number] | undefined => all.find(({ words }) => words.includes(name))
  return {
    line,
    address: line.words[skip - 1] ?? '',
    holder: (name) => find(name)?.line,
    value: (name) => {
      const { words = [] } = find(name) ?? {}
      return words[words.indexOf(name) + 1]
    },
    has: (name) => {
      const [on, off] = [find(name), find(`no-${name}`)]
      return on !== undefined && (off === undefined || all.indexOf(on) < all.indexOf(off))
    },
  }
}

export interface Graph {
  readonly proxies: readonly ProxySection[]
  readonly defaults: readonly Section[]
  readonly global?: Section
  /** Names of backends that are used and not in the file, with the line. */
  readonly missing: readonly Line[]
}

/** Defaults apply to the sections below them, or to those that name them with `from`. */
export function graphOf(sections: readonly Section[]): Graph {
  const named = new Map<string, Defaults>()
  let current: Defaults = { lines: [] }
  const proxies: ProxySection[] = []
  for (const section of sections) {
    const from = section.words.indexOf('from')
    const base = from > 0 ? named.get(section.words[from + 1] ?? '') : undefined
    if (section.kind === 'defaults') {
      current = { lines: [...(base?.lines ?? []), ...section.lines], section }
      if (section.name !== '') named.set(section.name, current)
    } else if (/^(?:frontend|backend|listen)$/.test(section.kind))
      proxies.push(new ProxySection(section, base ?? current))
  }
  return {
    proxies,
    defaults: sections.filter(({ kind }) => kind === 'defaults'),
    global: sections.find(({ kind }) => kind === 'global'),
    missing: link(proxies),
  }
}

function link(proxies: readonly ProxySection[]): Line[] {
  const backends = new Map(
    proxies.flatMap((proxy): [string, ProxySection][] =>
      proxy.section.kind === 'frontend' ? [] : [[proxy.section.name, proxy]],
    ),
  )
  const missing: Line[] = []
  for (const from of proxies) {
    if (!from.accepts) continue
    if (from.section.kind === 'listen') from.routes.push({ from, condition: '' })
    const uses = from.all('use_backend')
    const byDefault = from.last('default_backend')
    let computed = false
    for (const line of byDefault ? [...uses, byDefault] : uses) {
      const [, name = ''] = line.words
      const condition = conditionOf(line, from)
      if (name.includes('%[') && computed) continue
      computed ||= name.includes('%[')
      // A computed name may be that of any backend.
      const any = (): ProxySection[] => [...backends.values()].filter(({ section }) => section.kind === 'backend')
      const targets = name.includes('%[') ? any() : [backends.get(name)]
      for (const target of targets) {
        if (target) target.routes.push({ from, condition })
        else missing.push(line)
      }
    }
  }
  return missing
}

/** The text after `if` or `unless`, with the definitions of the ACLs that it names. */
function conditionOf({ words }: Line, from: ProxySection): string {
  const at = words.findIndex((word) => word === 'if' || word === 'unless')
  if (at === -1) return ''
  const condition = words.slice(at)
  const names = new Set(condition.map((word) => word.replace(/^!/, '')))
  const acls = [...names].flatMap((name) => from.acls.get(name) ?? [])
  return [condition, ...acls.map((acl) => acl.words)].map((part) => part.join(' ')).join('\n')
}
