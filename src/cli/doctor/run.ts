import { resolve } from 'node:path'
import { checkConnections } from './connect.ts'
import { type Assumptions, evaluate, type Finding, found } from './evaluate.ts'
import type { InstanceFacts, Reader, Reading, Source, Variable } from './facts.ts'
import { type Kind, kindOf, patches } from './files.ts'
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

export interface Examination {
  readonly findings: readonly Finding[]
  /** The files that were read, and their kinds. */
  readonly read: readonly { file: string; kind: Kind }[]
  /** Terraform's sources: only Terraform can evaluate them. */
  readonly unread: readonly string[]
}

export interface ExamineOptions extends Assumptions {
  /** Connect to the Redis and the databases in `.env` files. */
  readonly connect: boolean
}

/** Reads the files and evaluates them together, because timeouts must fit each other across files. */
export async function examine(sources: readonly Source[], options: ExamineOptions): Promise<Examination> {
  const { readings, broken, read, unread } = await readAll(sources)
  const findings = [...broken, ...evaluate(readings, options)]
  if (options.connect) {
    const instances = readings.filter((reading): reading is InstanceFacts => reading.role === 'instance')
    findings.push(...(await checkConnections(instances)))
  }
  return { findings, read, unread }
}

interface Readings extends Omit<Examination, 'findings'> {
  readonly readings: readonly Reading[]
  readonly broken: readonly Finding[]
}

/** Reads every file without evaluating the rules. */
export async function readAll(sources: readonly Source[]): Promise<Readings> {
  const partial = patches(sources.filter(({ file }) => /kustomization\.ya?ml$/.test(file)))
  const read = sources.flatMap((source) => {
    const kind = partial.has(resolve(source.file)) ? undefined : kindOf(source)
    return kind ? [{ source, kind }] : []
  })
  const variables = valuesIn(read)
  const broken: Finding[] = []
  const readings: Reading[] = []
  for (const [kind, group] of Map.groupBy(read, (entry) => entry.kind)) {
    const own = group.map(({ source }) => source)
    try {
      readings.push(...(await readers[kind](own, variables)))
    } catch {
      // One file is broken: read each alone, to keep the readings of the others.
      for (const source of own) readings.push(...(await readAlone(kind, source, variables, broken)))
    }
  }
  return {
    readings,
    broken,
    read: read.map(({ source, kind }) => ({ file: source.file, kind })),
    unread: sources.flatMap(({ file }) => (file.endsWith('.tf') ? [file] : [])),
  }
}

async function readAlone(
  kind: Kind,
  source: Source,
  variables: ReadonlyMap<string, Variable>,
  findings: Finding[],
): Promise<readonly Reading[]> {
  try {
    return await readers[kind]([source], variables)
  } catch (error) {
    // Recursive parsers run out of stack only for generated files.
    const [first = ''] = /call stack/.test((error as Error).message)
      ? ['it is nested too deeply']
      : (error as Error).message.split('\n')
    const { line = 1 } = error as { line?: number }
    findings.push(found('DOCTOR_SYNTAX', { file: source.file, line }, first))
    return []
  }
}

/** Values for `${NAME}` from `.env` files and from files for templates, such as nginx.env. */
function valuesIn(read: readonly { source: Source; kind: Kind }[]): Map<string, Variable> {
  const files = read.filter(({ kind }) => kind === 'environment')
  const variables = files.flatMap(({ source }) => [...variablesOf(source)])
  // A long value in many places would multiply the text.
  return new Map(variables.filter(([, { value = '' }]) => value.length <= 1024))
}
