import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { usageError } from '../args.ts'
import { usual } from '../eject/project.ts'
import type { Manifest } from './manifest.ts'
import { exists, type Graph, importsOf, readGraph } from './source.ts'

/** The program of an app, as its package.json starts it. */
export interface Entry {
  /** The source file. */
  readonly file: string
  /** What Node runs: the source, or what a build makes of it. */
  readonly run: string
  /** `fastify start FILE`: the file exports a plugin, and fastify-cli creates the instance. */
  readonly isPlugin: boolean
  readonly graph: Graph
}

const script = /\.[cm]?[jt]s$/
/** Options of Node and its relatives whose value may be the name of a file. */
const withFile: ReadonlySet<string> = new Set(['-r', '--require', '--import', '--loader', '--env-file'])
const built = /^(?:dist|build|out|lib)\//

/**
 * Looks at `--app`, the scripts, `main` and the usual names, in this order; the first whose files create an instance.
 *
 * @throws FLEET_ERR_USAGE if `app` is missing, or in another folder
 */
export function findEntry(folder: string, { scripts, type, main }: Manifest, app?: string): Entry | undefined {
  const isOwn = (file: string): boolean => exists(folder, file)
  if (app !== undefined && !isOwn(app)) {
    const path = join(folder, app)
    throw usageError(
      existsSync(path) ? `--app: must be a file in ${folder}, and is ${path}` : `--app: no such file: ${path}`,
    )
  }
  const started = ['start', 'serve', 'dev'].flatMap((name) => programsIn(scripts[name] ?? ''))
  const named = [main ?? '', ...usual].filter((file) => script.test(file)).map((file) => ({ file, isPlugin: false }))
  const candidates = (
    app
      ? [{ file: app, isPlugin: started.some(({ file, isPlugin }) => isPlugin && file === app) }]
      : [...started, ...named]
  )
    .map(({ file, isPlugin }) => ({
      file: sourceOf(file.replace(/^\.\//, ''), isOwn),
      run: file.replace(/^\.\//, ''),
      isPlugin,
    }))
    .filter(({ file }) => isOwn(file))
  let first: Entry | undefined
  for (const candidate of candidates) {
    const entry = { ...candidate, graph: readGraph(folder, candidate.file, type) }
    first ??= entry
    if (entry.isPlugin || usesFastify(entry.graph)) return entry
  }
  return first
}

export const usesFastify = ({ sources }: Graph): boolean =>
  sources.some((source) => importsOf(source).includes('fastify'))

/** The files that a script starts, the last command first. */
function programsIn(command: string): { file: string; isPlugin: boolean }[] {
  const commands = command.split(/&&|\|\||;/).map((part) => part.split(/\s+/).filter((word) => word !== ''))
  return commands.reverse().flatMap((words) => {
    const files = words.filter(
      (word, i) => script.test(word) && !withFile.has(words[i - 1] ?? '') && !word.startsWith('-'),
    )
    const isPlugin = words.includes('start') && words.some((word) => /(?:^|\/)fastify(?:-cli)?$/.test(word))
    const file = isPlugin ? files.at(-1) : files[0]
    return file === undefined ? [] : [{ file, isPlugin }]
  })
}

/** The source of a built file. */
function sourceOf(file: string, exists: (file: string) => boolean): string {
  if (!built.test(file)) return file
  const inside = file.replace(built, '').replace(/js$/, 'ts')
  const found = [`src/${inside}`, inside].find(exists)
  return found ?? file
}

/** A file beside the entry, with its extension, and what Node runs of it. */
export function besideEntry({ file, run }: Entry, name: string): { file: string; run: string } {
  const beside = (path: string): string => {
    const folder = dirname(path)
    return `${folder === '.' ? '' : `${folder}/`}${name}${script.exec(path)?.[0] ?? '.js'}`
  }
  return { file: beside(file), run: beside(run) }
}
