import { resolve } from 'node:path'
import { type Assumptions, type Budget, budgetsOf, withApp } from './budget.ts'
import { checkConnections } from './connect.ts'
import { type Evaluation, evaluate, type Finding, found } from './evaluate.ts'
import type { Fact, FileAt, InstanceFacts, Kind, Reader, Reading, Source, Variable } from './facts.ts'
import { kindOf, patches, whyUnread } from './files.ts'
import { readApp } from './readers/app.ts'
import { readCompose } from './readers/compose.ts'
import { readEnvironment, variablesOf } from './readers/environment.ts'
import { readHaproxy } from './readers/haproxy.ts'
import { readImage } from './readers/image.ts'
import { readKubernetes } from './readers/kubernetes.ts'
import { readNginx } from './readers/nginx.ts'
import { readSystemd } from './readers/systemd.ts'
import { readTerraform } from './readers/terraform.ts'

const readers: Readonly<Record<Kind, Reader>> = {
  nginx: readNginx,
  haproxy: readHaproxy,
  compose: readCompose,
  kubernetes: readKubernetes,
  // Loads acorn.
  pm2: async (...args) => (await import('./readers/pm2.ts')).readPm2(...args),
  systemd: readSystemd,
  terraform: readTerraform,
  environment: readEnvironment,
  image: readImage,
  app: readApp,
}

/** What became of a file. */
export interface FileReport {
  readonly file: string
  readonly kind: Kind
  /** The number of facts read. 0 is a warning, unless the file is part of another. */
  readonly facts: number
  /** The codes of the rules that were applied, whether they hold or not. */
  readonly rules: readonly string[]
  /** What could not be judged, and why; without `codes`, all rules that need this part of the file. */
  readonly unjudged: readonly { readonly line: number; readonly why: string; readonly codes?: readonly string[] }[]
  /** The file that includes this one. */
  readonly partOf?: string
}

export interface UnreadFile {
  readonly file: string
  readonly why: string
  readonly named?: boolean
}

export interface Examination {
  readonly findings: readonly Finding[]
  readonly read: readonly FileReport[]
  readonly unread: readonly UnreadFile[]
  /** The drain budget of each instance. */
  readonly budgets: readonly Budget[]
}

export interface ExamineOptions extends Assumptions {
  /** Connect to the Redis and the databases in `.env` files. */
  readonly connect: boolean
}

/** Reads the files and evaluates them together, because timeouts must fit each other across files. */
export async function examine(sources: readonly Source[], options: ExamineOptions): Promise<Examination> {
  const { readings, broken, read, unread } = await readAll(sources)
  const completed = withApp(readings)
  const evaluation = evaluate(completed, options)
  const findings = [...broken, ...evaluation.findings]
  if (options.connect) {
    const instances = readings.filter((reading): reading is InstanceFacts => reading.role === 'instance')
    findings.push(...(await checkConnections(instances)))
  }
  const unreadable = new Set(broken.map(({ file }) => file))
  const reports = reportsOf(
    read.filter(({ file }) => !unreadable.has(file)),
    readings,
    evaluation,
  )
  return { findings, read: reports, unread, budgets: budgetsOf(completed, options) }
}

function reportsOf(
  read: Readings['read'],
  readings: readonly Reading[],
  { applied, unjudged }: Evaluation,
): FileReport[] {
  const facts = factsByFile(readings)
  const rulesOf = Map.groupBy(applied, ({ file }) => file)
  const unjudgedOf = Map.groupBy(unjudged, ({ file }) => file)
  const partOf = new Map(
    readings.flatMap((one) => (one.role === 'count' && one.partOf ? [[one.file, one.partOf]] : [])),
  )
  // The files within the output of `nginx -T` have facts, too.
  const inner = new Set([...facts.keys()].filter((file) => !read.some((one) => one.file === file)))
  const kindOfInner = read.find(({ kind }) => kind === 'nginx')?.kind
  const split = new Set(readings.flatMap((one) => (one.role === 'count' && one.isSplit ? [one.file] : [])))
  const outer = inner.size > 0 ? read.filter(({ file }) => !split.has(file)) : read
  const all = [...outer, ...(kindOfInner ? [...inner].map((file) => ({ file, kind: kindOfInner })) : [])]
  return all.map(({ file, kind }) => ({
    file,
    kind,
    facts: facts.get(file) ?? 0,
    rules: [...new Set((rulesOf.get(file) ?? []).map(({ code }) => code))].sort(),
    unjudged: (unjudgedOf.get(file) ?? []).map(({ line, why, codes }) => ({ line, why, codes })),
    partOf: partOf.get(file),
  }))
}

/** The number of facts of each file: what its reader counted, else the members of instances and fronts. */
function factsByFile(readings: readonly Reading[]): Map<string, number> {
  const counted = new Map<string, number>()
  const places = new Map<string, Set<string>>()
  for (const reading of readings) {
    if (reading.role === 'count') counted.set(reading.file, (counted.get(reading.file) ?? 0) + reading.facts)
    else if (reading.role !== 'unjudged')
      for (const { file, line, key } of factsOf(reading)) add(places, file, `${line} ${key}`)
  }
  for (const [file, keys] of places) if (!counted.has(file)) counted.set(file, keys.size)
  return counted
}

function factsOf(reading: Reading): { file: string; line: number; key: string }[] {
  const { file, line } = reading
  if (reading.role === 'violation' || reading.role === 'passed') return [{ file, line, key: reading.code }]
  const members = Object.entries(reading as object).flatMap(([key, value]): [string, unknown][] =>
    value instanceof Map ? [...value] : [[key, value]],
  )
  return members.flatMap(([key, value]) => {
    const place = value as Partial<Fact<unknown>> | undefined
    return typeof place?.file === 'string' && place.line ? [{ file: place.file, line: place.line, key }] : []
  })
}

const add = (map: Map<string, Set<string>>, name: string, value: string): void => {
  const set = map.get(name) ?? new Set()
  map.set(name, set.add(value))
}

interface Readings {
  readonly readings: readonly Reading[]
  readonly broken: readonly Finding[]
  readonly read: readonly { file: string; kind: Kind }[]
  readonly unread: readonly UnreadFile[]
}

/** Reads every file without evaluating the rules. */
export async function readAll(sources: readonly Source[]): Promise<Readings> {
  const partial = patches(sources.filter(({ file }) => /kustomization\.ya?ml$/.test(file)))
  const unread: UnreadFile[] = []
  const read = sources.flatMap((source) => {
    const patch = partial.has(resolve(source.file))
    const kind = patch ? undefined : kindOf(source)
    if (kind) return [{ source, kind }]
    if (source.isReference) return []
    const why = patch ? 'it is a patch: pass the output of `kubectl kustomize`' : whyUnread(source)
    unread.push({ file: source.file, why, named: source.named })
    return []
  })
  const variables = valuesIn(read)
  const byPath = new Map(sources.map((source) => [resolve(source.file), source]))
  const fileAt: FileAt = (path) => byPath.get(resolve(path))
  const broken: Finding[] = []
  const readings: Reading[] = []
  for (const [kind, group] of Map.groupBy(read, (entry) => entry.kind)) {
    const own = group.map(({ source }) => source)
    const readOwn = async (some: readonly Source[]): Promise<readonly Reading[]> =>
      await readers[kind](some, variables, fileAt)
    try {
      readings.push(...(await readOwn(own)))
    } catch {
      // The others are still read together.
      const problems = await Promise.all(own.map((source) => problemOf(source, readOwn)))
      broken.push(...problems.flatMap((problem) => problem ?? []))
      readings.push(...(await readOwn(own.filter((_, i) => problems[i] === undefined))))
    }
  }
  return { readings, broken, read: read.map(({ source, kind }) => ({ file: source.file, kind })), unread }
}

async function problemOf(
  source: Source,
  read: (sources: readonly Source[]) => Promise<unknown>,
): Promise<Finding | undefined> {
  try {
    await read([source])
    return undefined
  } catch (error) {
    // Recursive parsers run out of stack only for generated files.
    const [first = ''] = /call stack/.test((error as Error).message)
      ? ['it is nested too deeply']
      : (error as Error).message.split('\n')
    const { line = 1 } = error as { line?: number }
    return found('DOCTOR_SYNTAX', { file: source.file, line }, first)
  }
}

/** Values for `${NAME}` from `.env` files and from files for templates, such as nginx.env. */
function valuesIn(read: readonly { source: Source; kind: Kind }[]): Map<string, Variable> {
  const files = read.filter(({ kind }) => kind === 'environment')
  const variables = files.flatMap(({ source }) => [...variablesOf(source)])
  // A long value in many places would multiply the text.
  return new Map(variables.filter(([, { value = '' }]) => value.length <= 1024))
}
