import { dirname, resolve } from 'node:path'
import {
  escaped,
  type FactCount,
  type Source,
  type Unjudged,
  unjudged,
  type Variable,
  type Violation,
  violation,
} from '../facts.ts'
import { type Directive, dumpedFiles, isTemplate, parseNginx } from './nginx-syntax.ts'

/** Includes followed per main file; real configurations have dozens. */
const maxIncludes = 1000
/** Folders of nginx in packages and images. A file that is installed there is often kept in another folder. */
const prefixes =
  /^(?:\/usr\/local\/(?:etc\/nginx|nginx\/conf)|\/usr\/local\/openresty\/nginx\/conf|\/opt\/nginx\/conf|\/etc\/nginx)\//

/** A file with its includes: a main file, or a fragment that no file includes. */
export interface Root {
  readonly file: string
  readonly tree: readonly Directive[]
  /** Whether it has `http`, so that nothing outside it changes it. */
  readonly isMain: boolean
}

export interface Forest {
  readonly roots: readonly Root[]
  readonly notes: readonly Note[]
}

type Note = Unjudged | FactCount | Violation

type Variables = ReadonlyMap<string, Variable>

/** Parses the files and replaces each `include` by the files it matches. A syntax error is a note. */
export function plant(sources: readonly Source[], variables: Variables): Forest {
  const notes: Note[] = []
  const roots: Root[] = []
  const texts: Source[] = []
  for (const source of sources) {
    const files = dumpedFiles(source)
    if (files) {
      roots.push(...rootsOf(files, variables, notes))
      notes.push({ role: 'count', file: source.file, line: 1, facts: 0, isSplit: true })
    } else if (isTemplate(source.text))
      notes.push(unjudged({ file: source.file, line: 1 }, 'it is a template of another program: pass its output'))
    else texts.push(source)
  }
  roots.push(...rootsOf(texts, variables, notes))
  return { roots, notes }
}

function rootsOf(sources: readonly Source[], variables: Variables, notes: Note[]): Root[] {
  const trees = new Map(
    sources.map((source) => [resolve(source.file), { source, tree: parse(source, variables, notes) }]),
  )
  const included = new Map<string, string>()
  const all = [...trees].flatMap(([path, { source, tree }]) => {
    if (!tree) return []
    const include = (name: string): string[] => {
      const found = named(name, dirname(path), trees.keys())
      return found.length > 0 || !prefixes.test(name)
        ? found
        : named(name.replace(prefixes, ''), dirname(path), trees.keys())
    }
    const expanded = expand(tree, include, (found) => trees.get(found)?.tree, {
      within: [path],
      left: { count: maxIncludes },
      onFound: (found) => included.has(found) || included.set(found, source.file),
    })
    const isMain = expanded.some(({ name, block }) => name === 'http' && block)
    return [{ path, file: source.file, tree: expanded, isMain }]
  })
  for (const [path, partOf] of included) {
    const { source } = trees.get(path) ?? {}
    if (source) notes.push({ role: 'count', file: source.file, line: 1, facts: 0, partOf })
  }
  return all.filter(({ path }) => !included.has(path))
}

/** `undefined` for a file with a syntax error. */
function parse({ file, text }: Source, variables: Variables, notes: Note[]): Directive[] | undefined {
  const filled = text.replaceAll(/\$\{(\w+)\}/g, (whole, name: string) => {
    const value = variables.get(name)?.value
    return (value || derived(name, variables) || (value ?? whole)).replaceAll('\n', ' ')
  })
  // A placeholder alone on its line stands for directives.
  const placeholder = /^[ \t]*\$\{\w+\}[ \t]*\r?$/gm
  for (const { index, 0: whole } of filled.matchAll(placeholder)) {
    const line = filled.slice(0, index).split('\n').length
    notes.push(unjudged({ file, line }, `${whole.trim()} is not in the files`))
    if (notes.length > maxIncludes) break
  }
  try {
    return parseNginx(file, filled.replaceAll(placeholder, ''))
  } catch (error) {
    const { message, line = 1 } = error as { message: string; line?: number }
    notes.push(violation('DOCTOR_SYNTAX', { file, line }, message))
    return undefined
  }
}

/** Values of the shipped templates that scripts/nginx-render derives, for the default pool. */
function derived(name: string, variables: Variables): string | undefined {
  if (name === 'FLEET_POOL_NAME') return 'default'
  if (name === 'FLEET_POOL_SUFFIX') return ''
  if (name === 'FLEET_RELOAD') return 'gentle'
  if (name === 'FLEET_LAST_RESORT') return 'server fleet max_fails=0;'
  const timeout = variables.get('FLEET_FAIL_TIMEOUT')?.value
  return name === 'FLEET_SERVERS' && timeout ? `server fleet max_fails=1 fail_timeout=${timeout};` : undefined
}

interface Walk {
  readonly within: readonly string[]
  readonly left: { count: number }
  readonly onFound: (path: string) => unknown
}

/**
 * An `include` that matches no file stays in the tree. A recursive one is skipped: nginx would not start, and the includes would
 * multiply.
 */
function expand(
  tree: readonly Directive[],
  match: (name: string) => readonly string[],
  treeOf: (path: string) => readonly Directive[] | undefined,
  walk: Walk,
): Directive[] {
  return tree.flatMap((directive): Directive[] => {
    if (directive.name !== 'include')
      return [directive.block ? { ...directive, block: expand(directive.block, match, treeOf, walk) } : directive]
    const paths = match(directive.args[0] ?? '')
    // A file with a syntax error is as good as missing.
    if (paths.some((path) => treeOf(path) === undefined)) return [directive]
    if (paths.length === 0) return [directive]
    return paths.flatMap((path) => {
      const found = treeOf(path)
      if (!found || walk.within.includes(path) || walk.left.count <= 0) return []
      walk.left.count--
      walk.onFound(path)
      return expand(found, match, treeOf, { ...walk, within: [...walk.within, path] })
    })
  })
}

/** Matches among the given files. The official image makes `conf.d/x.conf` from `templates/x.conf.template`. */
function named(pattern: string, folder: string, files: Iterable<string>): string[] {
  const template = pattern.replace(/(^|\/)conf\.d\//, '$1templates/')
  const patterns = template === pattern ? [pattern] : [pattern, `${template}.template`]
  const all = [...files]
  return patterns.flatMap((one) => all.filter(globbed(resolve(folder, one))).sort())
}

/** As in glob(3), which nginx uses, `*` and `?` do not match `/`. */
function globbed(pattern: string): (path: string) => boolean {
  const source = pattern.replace(/\*+|\?|\[[^\]/]+\]|[^*?[]|\[/g, (part) => {
    if (part.startsWith('*')) return '[^/]*'
    if (part === '?') return '[^/]'
    return part.length > 1 ? `[${part.slice(1, -1).replace(/^!/, '^').replace(/[\\[]/g, '\\$&')}]` : escaped(part)
  })
  try {
    const wanted = new RegExp(`^${source}$`)
    return (path) => wanted.test(path)
  } catch {
    // A class such as `[z-a]` matches nothing.
    return () => false
  }
}
