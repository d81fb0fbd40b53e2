import { globSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { dirname, extname, join, normalize } from 'node:path'
import { type AnyNode, type CallExpression, type Comment, type Program, parse } from 'acorn'
import { isWithin, readRegular } from '../../base/regular-file.ts'

/** A file of the project. Types are blanked out for the parser, so positions in its tree are positions in `text`. */
export interface Source {
  /** Path in the project. */
  readonly file: string
  readonly text: string
  /** The text with spaces in place of types. */
  readonly code: string
  readonly program: Program
  readonly comments: readonly Comment[]
  /** Whether it has `import` or `export` statements. */
  readonly isModule: boolean
  /** Whether `await` works outside functions, however the file is run or compiled. */
  readonly topLevelAwait: boolean
}

const typed: ReadonlySet<string> = new Set(['.ts', '.mts', '.cts'])
export const isTypeScript = (file: string): boolean => typed.has(extname(file))

/** @param type of the package, `module` or `commonjs` @throws SyntaxError */
export function parseSource(file: string, text: string, type: string | undefined): Source {
  const code = isTypeScript(file) ? withoutTypes(text) : text
  const comments: Comment[] = []
  const options = { ecmaVersion: 'latest', allowHashBang: true } as const
  const read = (sourceType: 'module' | 'commonjs'): Program => {
    comments.length = 0
    return parse(code, { ...options, sourceType, onComment: comments })
  }
  let program: Program
  try {
    program = read('module')
  } catch (error) {
    try {
      program = read('commonjs')
    } catch {
      throw error
    }
  }
  const isModule = program.body.some(({ type }) => /^(?:Import|Export)/.test(type))
  // What compiles or bundles a file may not allow it, so a file of another kind has to use it already.
  const certain = { '.mjs': true, '.mts': true, '.js': type === 'module' }[extname(file)] ?? false
  const topLevelAwait = isModule && (certain || awaitsAtTop(program))
  return { file, text, code, program, comments, isModule, topLevelAwait }
}

/** @throws SyntaxError for syntax that is more than types, such as enums */
function withoutTypes(text: string): string {
  const { emitWarning } = process
  // Node announces that this function is experimental; nobody who runs `fleet init` can act on that.
  process.emitWarning = () => undefined
  try {
    const code = stripTypeScriptTypes(text)
    if (code.length !== text.length) throw new SyntaxError('positions differ without types')
    return code
  } finally {
    process.emitWarning = emitWarning
  }
}

function awaitsAtTop(program: Program): boolean {
  let found = false
  walk(program, ({ type }, parents) => {
    if (type === 'AwaitExpression') found ||= !parents.some((parent) => parent.type.includes('Function'))
  })
  return found
}

/** Calls back for each node in the order of the text, with its parents, the nearest last. Nested code does not exhaust the stack. */
export function walk(root: AnyNode, visit: (node: AnyNode, parents: readonly AnyNode[]) => void): void {
  const open: { node: AnyNode; depth: number }[] = [{ node: root, depth: 0 }]
  const parents: AnyNode[] = []
  for (let next = open.pop(); next; next = open.pop()) {
    const { node, depth } = next
    parents.length = depth
    visit(node, parents)
    parents.push(node)
    const children = Object.values(node).flat().filter(isNode)
    for (const child of children.reverse()) open.push({ node: child, depth: depth + 1 })
  }
}

const isNode = (value: unknown): value is AnyNode =>
  typeof value === 'object' && value !== null && typeof (value as AnyNode).type === 'string'

export const lineOf = (text: string, position: number): number => text.slice(0, position).split('\n').length

/** The module that `require('…')` names. */
export function requiredBy(node: AnyNode | null | undefined): string | undefined {
  if (node?.type !== 'CallExpression' || node.callee.type !== 'Identifier' || node.callee.name !== 'require')
    return undefined
  const [name] = node.arguments
  return name?.type === 'Literal' && typeof name.value === 'string' ? name.value : undefined
}

/** The modules that a file imports, by name. */
export function importsOf({ program }: Source): string[] {
  const names: string[] = []
  walk(program, (node) => {
    const required = requiredBy(node)
    if (required !== undefined) names.push(required)
    else if ('source' in node && node.source?.type === 'Literal') names.push(String(node.source.value))
  })
  return names
}

/** The name of a method call on a variable: `app.get()` is `['app', 'get']`. */
export function methodOf({ callee }: CallExpression): readonly [object: string, method: string] | undefined {
  if (callee.type !== 'MemberExpression' || callee.computed) return undefined
  const { object, property } = callee
  return object.type === 'Identifier' && property.type === 'Identifier' ? [object.name, property.name] : undefined
}

const endings = ['', '.js', '.ts', '.mjs', '.cjs', '.mts', '.cts', '/index.js', '/index.ts']
/** A compiled name stands for its source. */
const sources: Readonly<Record<string, string>> = { '.js': '.ts', '.mjs': '.mts', '.cjs': '.cts' }

/** The file of the project that `./name` in `from` means, if there is one inside of the folder. */
export function resolveImport(folder: string, from: string, name: string): string | undefined {
  if (!name.startsWith('.')) return undefined
  const path = normalize(join(dirname(from), name)).replaceAll('\\', '/')
  const extension = extname(path)
  const source = sources[extension]
  const tried = endings.map((ending) => path + ending)
  if (source) tried.push(path.slice(0, -extension.length) + source)
  return tried.find((file) => exists(folder, file))
}

/** Whether the project has a file that can be read. Files elsewhere are not its own, and may not be changed. */
export const exists = (folder: string, file: string): boolean =>
  isWithin(join(folder, file), folder) && readRegular(join(folder, file), true) !== undefined

/** The files in the folders of @fastify/autoload: `{ dir: join(__dirname, 'plugins') }`. */
function autoloaded(folder: string, source: Source): string[] {
  if (!importsOf(source).includes('@fastify/autoload')) return []
  const found: string[] = []
  walk(source.program, (node) => {
    if (node.type !== 'Property' || node.key.type !== 'Identifier' || node.key.name !== 'dir') return
    const name = node.value.type === 'CallExpression' ? node.value.arguments.at(-1) : undefined
    if (name?.type !== 'Literal' || typeof name.value !== 'string') return
    const below = join(dirname(source.file), name.value)
    if (isWithin(join(folder, below), folder))
      found.push(...globSync(`${below}/**/*.{js,mjs,cjs,ts,mts,cts}`, { cwd: folder }))
  })
  return found.filter((file) => !/\.(?:d|test)\.[cm]?[jt]s$/.test(file)).sort()
}

/** Files read at most. */
const maxFiles = 200

export interface Graph {
  /** The entry first, then what it imports, nearest first. */
  readonly sources: readonly Source[]
  /** Files that cannot be read or parsed, with the reason. */
  readonly unread: readonly { readonly file: string; readonly reason: string }[]
  /** Whether Node finds every imported file under the name that is written. */
  readonly runsDirectly: boolean
}

/** The entry and the files of the project that it imports, directly and indirectly. */
export function readGraph(folder: string, entry: string, type: string | undefined): Graph {
  const queue = [entry]
  const found: Source[] = []
  const unread: { file: string; reason: string }[] = []
  let runsDirectly = true
  for (const file of queue) {
    let source: Source
    try {
      source = parseSource(file, readRegular(join(folder, file), true) ?? '', type)
    } catch (error) {
      unread.push({ file, reason: (error as Error).message.replaceAll(/\s+/g, ' ').trim() })
      continue
    }
    found.push(source)
    for (const loaded of autoloaded(folder, source))
      if (!queue.includes(loaded) && queue.length < maxFiles) queue.push(loaded)
    for (const name of importsOf(source)) {
      const target = resolveImport(folder, file, name)
      if (target === undefined) continue
      if (isTypeScript(target) && !target.endsWith(name.replace(/^[./]+/, ''))) runsDirectly = false
      if (/\.[cm]?[jt]s$/.test(target) && !queue.includes(target) && queue.length < maxFiles) queue.push(target)
    }
  }
  if (isTypeScript(entry) && unread.length > 0) runsDirectly = false
  return { sources: found, unread, runsDirectly }
}
