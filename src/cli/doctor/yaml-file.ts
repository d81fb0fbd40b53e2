import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseAllDocuments, visit } from 'yaml'
import type { Fact, Source } from './facts.ts'

export type Path = readonly (string | number)[]

/** One document of a YAML file: its values, and the line each was written on. */
export class YamlDocument {
  readonly file: string
  readonly value: unknown
  readonly #document: Document
  readonly #lines: LineCounter

  readonly #text: readonly string[]

  constructor({ file, text }: Source, document: Document, lines: LineCounter) {
    this.file = file
    this.#text = text.split('\n')
    this.#document = document
    this.#lines = lines
    this.value = document.toJS()
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

  #step(node: unknown, key: string | number): { node: unknown; offset: number } | undefined {
    const target = isAlias(node) ? node.resolve(this.#document) : node
    if (isSeq(target)) {
      const item = target.items[Number(key)] as Node | undefined
      return item && { node: item, offset: item.range?.[0] ?? 0 }
    }
    if (!isMap(target)) return undefined
    const own = target.items.find(({ key: name }) => isScalar(name) && String(name.value) === String(key))
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

/** @throws an Error with the `line` of the first syntax error */
export function parseYaml(source: Source): YamlDocument[] {
  const { text } = source
  const lines = new LineCounter()
  // `prettyErrors` and `uniqueKeys` take quadratic time.
  const documents = parseAllDocuments(text, { lineCounter: lines, merge: true, prettyErrors: false, uniqueKeys: false })
  if (!Array.isArray(documents)) return []
  for (const document of documents) {
    const [error] = document.errors
    if (error) throw syntaxError(error.message, lines.linePos(error.pos[0]).line)
    const repeated = repeatedKey(document)
    if (repeated) throw syntaxError('Map keys must be unique', lines.linePos(repeated.range?.[0] ?? 0).line)
  }
  return documents.map((document) => new YamlDocument(source, document, lines))
}

const syntaxError = (message: string, line: number): Error => Object.assign(new Error(message), { line })

function repeatedKey(document: Document): Node | undefined {
  let found: Node | undefined
  visit(document, {
    Map(_, { items }) {
      const seen = new Set<unknown>()
      for (const { key } of items) {
        if (!isScalar(key) || isMerge(key)) continue
        if (seen.has(key.value)) {
          found = key as Node
          return visit.BREAK
        }
        seen.add(key.value)
      }
      return undefined
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
