// `fleet init` plans all changes before it shows them:
//   entry.ts        the program that the package.json starts, and the files of the project that it imports
//   source.ts       parses them: acorn, which knows positions; types are blanked out by Node itself
//   instance.ts     the variable that holds the Fastify instance
//   register.ts     the lines that register fleet, listen.ts those that read PORT and HOST
//   existing.ts     plugins, routes and decorators that fleet joins
//   manifest.ts, environment.ts, docker.ts   the other files
//   change.ts       edits and their diff
import { basename, join } from 'node:path'
import { readRegular } from '../../base/regular-file.ts'
import { usageError } from '../args.ts'
import { type Project, readProject } from '../eject/project.ts'
import { applied, type Change, type Edit, newFile } from './change.ts'
import { dockerChanges } from './docker.ts'
import { besideEntry, type Entry, findEntry, usesFastify } from './entry.ts'
import { environmentChange } from './environment.ts'
import { type Existing, existingIn } from './existing.ts'
import { assertFastify5 } from './fastify-version.ts'
import { type Instance, instanceIn, isUnclear, type Unclear } from './instance.ts'
import { listeningOf } from './listen.ts'
import { addEntries, type Manifest, own, readManifest } from './manifest.ts'
import { linesFor, registerEdits, takesServerOptions } from './register.ts'
import { importsOf, isTypeScript, parseSource, readGraph, type Source } from './source.ts'
import { serverText } from './template.ts'

/** Lines that a person has to add. */
export interface Manual {
  /** `FILE:LINE`, or a description. */
  readonly place: string
  readonly reason: string
  readonly lines: readonly string[]
}

export interface InitPlan {
  readonly folder: string
  readonly entry: string | undefined
  readonly changes: readonly Change[]
  readonly joined: readonly string[]
  readonly notes: readonly string[]
  readonly manual: readonly Manual[]
  readonly next: readonly string[]
}

export interface InitOptions {
  readonly app?: string
  readonly name?: string
  readonly docker?: boolean
}

/** Changes of the app's code. */
interface Code {
  readonly changes: readonly Change[]
  readonly manual: readonly Manual[]
  readonly notes: readonly string[]
  /** Whether the app has fleet already. */
  readonly isDone?: boolean
  /** What Node runs, if something does. */
  readonly run?: string
}

/** @throws FLEET_ERR_USAGE without a package.json, without Fastify, or with another version than 5 */
export function planInit(folder: string, options: InitOptions): InitPlan {
  const manifest = readManifest(folder)
  const entry = findEntry(folder, manifest, options.app)
  if (!manifest.dependencies.fastify && !(entry && usesFastify(entry.graph)))
    throw usageError(withoutFastify(folder, manifest))
  assertFastify5(folder, manifest.dependencies.fastify)
  const project = readProject(folder, { name: options.name, app: entry?.run ?? 'app.js' })
  const existing = existingIn(entry?.graph.sources ?? [])
  const code = entry ? codeOf(folder, manifest, project, entry, existing) : notFound(project)
  const files = [
    ...code.changes,
    ...(options.docker ? dockerChanges({ ...project, app: code.run ?? project.app }) : []),
  ]
  const environment = environmentChange(folder)
  if (environment) files.push(environment)
  const scripts = entry && code.run ? scriptsFor(manifest, entry, code.run) : { scripts: {}, notes: [] }
  const needsBuild = entry !== undefined && entry.run !== entry.file && files.some(({ file }) => file === 'Dockerfile')
  const dockerNotes = needsBuild
    ? [`Dockerfile: add the build that makes ${code.run ?? entry.run}, at the comment about a build step`]
    : []
  const isNew = manifest.dependencies['fastify-fleet'] === undefined
  const edits = addEntries(manifest.text, {
    scripts: scripts.scripts,
    dependencies: isNew ? { 'fastify-fleet': `^${own().version}` } : {},
  })
  // Last, so that an interrupted run is continued by the next one.
  if (edits.length > 0) files.push({ file: 'package.json', before: manifest.text, edits })
  return {
    folder,
    entry: entry?.file,
    changes: files,
    joined: code.isDone ? [] : existing.joined,
    notes: [...(code.isDone ? [] : existing.notes), ...code.notes, ...scripts.notes, ...dockerNotes],
    manual: code.manual,
    next: [
      ...(isNew ? ['npm install'] : []),
      ...(code.run && (scripts.scripts.fleet ?? manifest.scripts.fleet)
        ? [
            'npm run fleet                            (three instances behind a load balancer)',
            'npx fleet test http://127.0.0.1:8080     (in another terminal)',
          ]
        : []),
    ],
  }
}

const withoutFastify = (folder: string, { workspaces }: Manifest): string =>
  `${join(folder, 'package.json')} does not depend on fastify; ${
    workspaces
      ? 'name the folder of one of its workspaces, e.g. `fleet init packages/api`'
      : 'make a new app with `fleet init --new DIR`'
  }`

const registerOptions = ({ name }: Project, { disabled }: Existing, quote = "'"): string =>
  `{ ${[`name: ${quote}${name}${quote}`, ...disabled.map((option) => `${option}: false`)].join(', ')} }`

function codeOf(folder: string, manifest: Manifest, project: Project, entry: Entry, existing: Existing): Code {
  const { sources, unread } = entry.graph
  const using = (all: readonly Source[]): boolean =>
    all.some((source) => importsOf(source).some((name) => /^fastify-fleet(?:\/|$)/.test(name)))
  const found = sources.map(instanceIn).filter((one) => one !== undefined)
  const [inEntry] = sources[0]?.file === entry.file ? [instanceIn(sources[0])] : []
  if (entry.isPlugin && !inEntry) return pluginCode(folder, manifest, project, entry, existing)
  const notes = unread.map(({ file, reason }) => `${file} is not read: ${reason}`)
  const [only] = found
  const instance = inEntry ?? (only && found.length === 1 ? only : several(found, entry))
  const isDone = using(sources)
  const manual: Manual[] = []
  const edits = new Map<Source, Edit[]>()
  if (!isDone) {
    const registered = isUnclear(instance) ? undefined : registration(instance, project, existing, manifest)
    if (registered && !isUnclear(instance)) {
      edits.set(instance.source, registered)
      if (!takesServerOptions(instance))
        notes.push(
          `${instance.source.file}: \`serverOptions()\` is not added, because its options or their type do not allow it`,
        )
    } else manual.push(byHand(isUnclear(instance) ? instance : undefined, entry, project, existing))
  }
  if (!isUnclear(instance)) {
    const listening = listeningOf(folder, sources, instance)
    if (!listening)
      notes.push(
        `${entry.file}: no call of \`listen\` found; the app has to listen on PORT and HOST of the environment`,
      )
    else if (!listening.edits) notes.push(listening.note)
    else if (listening.edits.length > 0) {
      const all = [...(edits.get(listening.source) ?? []), ...listening.edits]
      if (canParse(listening.source, all, manifest)) edits.set(listening.source, all)
      else notes.push(listening.note)
    }
  }
  const changes = [...edits].map(([{ file, text }, list]) => ({ file, before: text, edits: list }))
  return { changes, manual, notes, isDone, run: entry.run }
}

function several(found: readonly (Instance | Unclear)[], entry: Entry): Instance | Unclear {
  const unread = entry.graph.unread.find(({ file }) => file === entry.file)
  if (unread) return { file: entry.file, line: 1, reason: `it cannot be parsed (${unread.reason})` }
  const files = found.map((one) => (isUnclear(one) ? one.file : one.source.file))
  const reason =
    files.length > 0
      ? `${files.join(' and ')} create an instance each; name one with \`--app FILE\``
      : 'no call of Fastify is found in it or in what it imports'
  return { file: entry.file, line: 1, reason }
}

function canParse({ file, text }: Source, edits: readonly Edit[], { type }: Manifest): boolean {
  try {
    return parseSource(file, applied({ before: text, edits }), type).program.body.length > 0
  } catch {
    return false
  }
}

/** The edits, if the edited file can be parsed and has the same instance. */
function registration(
  instance: Instance,
  project: Project,
  existing: Existing,
  { type }: Manifest,
): Edit[] | undefined {
  const { source } = instance
  const edits = registerEdits(
    instance,
    (quote) => registerOptions(project, existing, quote),
    existing.hasLoggerInstance,
  )
  try {
    const result = parseSource(source.file, applied({ before: source.text, edits }), type)
    const again = instanceIn(result)
    const isSame = again && !isUnclear(again) && again.name === instance.name && again.mayAwait === instance.mayAwait
    return isSame && importsOf(result).includes('fastify-fleet') ? edits : undefined
  } catch {
    return undefined
  }
}

function byHand(unclear: Unclear | undefined, entry: Entry, project: Project, existing: Existing): Manual {
  const file = unclear?.file ?? entry.file
  const source = entry.graph.sources.find((one) => one.file === file) ?? parseSource(file, "import 'fastify'", 'module')
  return {
    place: `${file}:${unclear?.line ?? 1}`,
    reason: unclear?.reason ?? 'the edited file would not be what it should be',
    lines: handLines(source, project, existing),
  }
}

function handLines(source: Source, project: Project, existing: Existing): string[] {
  const lines = linesFor(source, 'app', registerOptions(project, existing), source.topLevelAwait)
  return [
    `${lines.load}   // beside the line that loads fastify`,
    `Fastify({ ...${lines.serverOptions} })   // the options of the instance; its own ones follow`,
    `${lines.register}   // right after the instance is created, before routes and other plugins`,
  ]
}

const notFound = (project: Project): Code => ({
  changes: [],
  notes: [],
  manual: [
    {
      place: 'the file that calls Fastify()',
      reason: 'no program is found in the scripts, in `main` and under the usual names; name it with `--app FILE`',
      lines: handLines(parseSource('app.js', "import 'fastify'", 'module'), project, {
        joined: [],
        notes: [],
        disabled: [],
        hasLoggerInstance: false,
      }),
    },
  ],
})

/** A program for what `fastify start` runs: it creates the instance itself, so that fleet is registered at the root. */
function pluginCode(folder: string, manifest: Manifest, project: Project, entry: Entry, existing: Existing): Code {
  const server = besideEntry(entry, basename(entry.file).startsWith('server.') ? 'main' : 'server')
  const notes = [
    `\`fastify start\` still runs ${entry.run} alone, without fleet; start instances with \`node ${server.run}\`, which takes none of its flags`,
  ]
  const [plugin] = entry.graph.sources
  const isModule = plugin?.isModule ?? manifest.type === 'module'
  const topLevelAwait = plugin?.topLevelAwait ?? isModule
  const text = serverText({
    plugin: `./${basename(entry.file).replace(/ts$/, 'js')}`,
    options: registerOptions(project, existing),
    isModule: isModule || isTypeScript(entry.file),
    topLevelAwait,
  })
  if (readRegular(join(folder, server.file), true) === undefined)
    return { changes: [newFile(server.file, text)], manual: [], notes, run: server.run }
  const isDone = readGraph(folder, server.file, manifest.type).sources.some((source) =>
    importsOf(source).includes('fastify-fleet'),
  )
  if (isDone) return { changes: [], manual: [], notes: [], isDone, run: server.run }
  const reason = `it exists; \`fastify start\` creates the instance of ${entry.file}, and this program would do it instead`
  return { changes: [], notes, manual: [{ place: server.file, reason, lines: text.trimEnd().split('\n') }] }
}

/** The scripts that are missing, for a program that Node can run. */
function scriptsFor(
  { scripts, dependencies }: Manifest,
  entry: Entry,
  run: string,
): { scripts: Record<string, string>; notes: string[] } {
  const build = ['build', 'build:ts', 'compile'].find((name) => scripts[name] !== undefined)
  const isBuilt = entry.run !== entry.file
  const direct = isBuilt || !isTypeScript(entry.file) || entry.graph.runsDirectly
  if (!direct && !dependencies.tsx) {
    const note = `Node cannot run ${run}: its imports or its syntax need a build; add \`"fleet": "npm run build && fleet up BUILT_FILE"\` to the scripts`
    return { scripts: {}, notes: scripts.fleet ? [] : [note] }
  }
  const up = `${direct ? '' : 'NODE_OPTIONS=--import=tsx '}fleet up ${run}`
  const wanted = {
    fleet: isBuilt && build ? `npm run ${build} && ${up}` : up,
    ...(direct && !isBuilt && { start: `node ${run}` }),
  }
  const notes =
    scripts.fleet !== undefined && scripts.fleet !== wanted.fleet
      ? [`package.json: the script \`fleet\` exists and is kept; else it would be \`${wanted.fleet}\``]
      : []
  return { scripts: Object.fromEntries(Object.entries(wanted).filter(([name]) => scripts[name] === undefined)), notes }
}
