import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type LineCounter,
  type Node,
  type Scalar,
  visit,
} from 'yaml'
import type { Fact, Source } from './facts.ts'
import { documentsOf } from './yaml-parser.ts'

export type Path = readonly (string | number)[]

/** One document of a YAML file: its values, and the line each was written on. */
export class YamlDocument {
  readonly file: string
  readonly value: unknown
  /** Keys that occur twice in a map: the last one counts. */
  readonly repeated: readonly { readonly key: string; readonly line: number }[]
  readonly #document: Document
  readonly #lines: LineCounter
  readonly #text: readonly string[]
  #targets: ReadonlyMap<Alias, Node> | undefined

  constructor({ file, text }: Source, document: Document, lines: LineCounter) {
    this.file = file
    this.#text = text.split('\n')
    this.#document = document
    this.#lines = lines
    this.repeated = repeatedKeys(document).map(({ value, range }) => ({
      key: String(value).slice(0, 60),
      line: lines.linePos(range?.[0] ?? 0).line,
    }))
    this.value = document.toJS({ maxAliasCount })
  }

  /** Line of the deepest existing part of the path; follows `*alias` and `<<`. */
  line(path: Path): number {
    return this.#lines.linePos(this.#find(path).offset).line
  }

  /** The tag of the value at a path, such as `!reset`. */
  tag(path: Path): string | undefined {
    const { node, isWhole } = this.#find(path)
    return isWhole ? (node as (Node & { tag?: string }) | null)?.tag : undefined
  }

  /** The text of a line, from 1. */
  text(line: number): string {
    return this.#text[line - 1] ?? ''
  }

  /** The value at a path; `undefined` when there is none. */
  get(path: Path): unknown {
    let value: unknown = this.value
    for (const key of path) value = (value as Record<string | number, unknown> | null | undefined)?.[key]
    return value ?? undefined
  }

  /** The parsed value at a path with its line, unless `parse` returns `undefined`. */
  fact<T>(path: Path, parse: (value: unknown) => T | undefined): Fact<T> | undefined {
    const value = this.get(path)
    const parsed = value === undefined ? undefined : parse(value)
    return parsed === undefined ? undefined : { value: parsed, file: this.file, line: this.line(path) }
  }

  #find(path: Path): { node: unknown; offset: number; isWhole: boolean } {
    let node: unknown = this.#document.contents
    let offset = (node as Node | null)?.range?.[0] ?? 0
    for (const key of path) {
      const next = this.#step(node, key)
      if (!next) return { node, offset, isWhole: false }
      node = next.node
      offset = next.offset
    }
    return { node, offset, isWhole: true }
  }

  /** The parser itself searches the whole document for each alias. */
  #target(alias: Alias): Node | undefined {
    this.#targets ??= targetsOf(this.#document)
    return this.#targets.get(alias)
  }

  #step(node: unknown, key: string | number): { node: unknown; offset: number } | undefined {
    const target = isAlias(node) ? this.#target(node) : node
    if (isSeq(target)) {
      const item = target.items[Number(key)] as Node | undefined
      return item && { node: item, offset: item.range?.[0] ?? 0 }
    }
    if (!isMap(target)) return undefined
    const own = target.items.findLast(({ key: name }) => isScalar(name) && String(name.value) === String(key))
    if (own) return { node: own.value, offset: (own.key as Node).range?.[0] ?? 0 }
    for (const { key: name, value } of target.items) {
      if (!isMerge(name)) continue
      const found = this.#step(value, key)
      if (found) return found
    }
    return undefined
  }
}

/** The key of a merge is a symbol to the parser. */
const isMerge = (key: unknown): boolean => isScalar(key) && key.source === '<<'

/** The node that each alias stands for: the last one above it with the anchor. */
function targetsOf(document: Document): ReadonlyMap<Alias, Node> {
  const byAnchor = new Map<string, Node>()
  const found = new Map<Alias, Node>()
  visit(document, {
    Alias(_, alias) {
      const target = byAnchor.get(alias.source)
      if (target) found.set(alias, target)
    },
    Value(_, node) {
      if (node.anchor) byAnchor.set(node.anchor, node)
    },
  })
  return found
}

/** Real files have hundreds; aliases of aliases of aliases multiply. */
const maxAliasCount = 10_000

/**
 * @param repeats whether a key may occur twice in a map, as for kubectl. Compose and pm2 reject the file
 * @throws an Error with the `line` of the first syntax error
 */
export function parseYaml(source: Source, { repeats = false } = {}): YamlDocument[] {
  const { documents, lines } = documentsOf(source.text)
  const found = documents.map((document) => {
    const [error] = document.errors
    if (error) throw syntaxError(error.message, lines.linePos(error.pos[0]).line)
    return new YamlDocument(source, document, lines)
  })
  const repeated = repeats ? undefined : found.flatMap((document) => document.repeated)[0]
  if (repeated) throw syntaxError(`the key ${repeated.key} occurs twice in a map`, repeated.line)
  return found
}

const syntaxError = (message: string, line: number): Error => Object.assign(new Error(message), { line })

function repeatedKeys(document: Document): Scalar[] {
  const found: Scalar[] = []
  visit(document, {
    Map(_, { items }) {
      const seen = new Set<unknown>()
      for (const { key } of items) {
        if (!isScalar(key) || isMerge(key)) continue
        if (seen.has(key.value)) found.push(key)
        seen.add(key.value)
      }
    },
  })
  return found
}

/** The value if it is a map, else an empty object. */
export const asMap = (value: unknown): object =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {}
export const asList = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
export const asText = (value: unknown): string | undefined =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? String(value) : undefined
export const asNumber = (value: unknown): number | undefined => {
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined
}
/** A command as one line. */
export const asCommand = (value: unknown): string | undefined =>
  Array.isArray(value) ? value.map(String).join(' ') : asText(value)
