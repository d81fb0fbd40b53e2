import { resolve } from 'node:path'
import { judgeConnections } from './connect.ts'
import { type Assumptions, type Finding, found, judge } from './evaluate.ts'
import type { Context, Instance, Reader, Reading, Source, Variable } from './facts.ts'
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
import { others } from './rules.ts'

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
  /** Files that were read, by what they are. */
  readonly read: readonly { file: string; kind: Kind }[]
}

export interface ExamineOptions extends Assumptions {
  /** Ask the Redis and the databases of `.env` files. */
  readonly connect: boolean
}

/** Reads the files and judges them together, because timeouts must fit each other across files. */
export async function examine(sources: readonly Source[], options: ExamineOptions): Promise<Examination> {
  const { readings, broken, read } = await readAll(sources)
  const findings = [...broken, ...judge(readings, options)]
  if (options.connect) {
    const instances = readings.filter((reading): reading is Instance => reading.role === 'instance')
    findings.push(...(await judgeConnections(instances)))
  }
  return { findings, read }
}

interface Readings {
  readonly readings: readonly Reading[]
  readonly broken: readonly Finding[]
  readonly read: Examination['read']
}

/** What every file says, before it is judged. */
export async function readAll(sources: readonly Source[]): Promise<Readings> {
  const partial = patches(sources.filter(({ file }) => /kustomization\.ya?ml$/.test(file)))
  const read = sources.flatMap((source) => {
    const kind = partial.has(resolve(source.file)) ? undefined : kindOf(source)
    return kind ? [{ source, kind }] : []
  })
  const context: Context = { variables: values(read) }
  const broken: Finding[] = []
  const readings: Reading[] = []
  for (const [kind, group] of Map.groupBy(read, (entry) => entry.kind)) {
    const own = group.map(({ source }) => source)
    try {
      readings.push(...(await readers[kind](own, context)))
    } catch {
      // One of them is broken: the others still say what they say.
      for (const source of own) readings.push(...(await readAlone(kind, source, context, broken)))
    }
  }
  return { readings, broken, read: read.map(({ source, kind }) => ({ file: source.file, kind })) }
}

async function readAlone(
  kind: Kind,
  source: Source,
  context: Context,
  findings: Finding[],
): Promise<readonly Reading[]> {
  try {
    return await readers[kind]([source], context)
  } catch (error) {
    // A parser that follows nested values runs out of stack before anything that a person writes is nested so deep.
    const [first = ''] = /call stack/.test((error as Error).message)
      ? ['it is nested too deeply']
      : (error as Error).message.split('\n')
    const { line = 1 } = error as { line?: number }
    findings.push(found(others.syntax, { file: source.file, line }, first))
    return []
  }
}

/** Values for `${NAME}`: what `.env` files say, and the values of front's templates such as nginx.env. */
function values(read: readonly { source: Source; kind: Kind }[]): Map<string, Variable> {
  const files = read.filter(({ kind }) => kind === 'environment')
  const variables = files.flatMap(({ source }) => [...variablesOf(source)])
  // One long value in many places would make much out of little.
  return new Map(variables.filter(([, { value = '' }]) => value.length <= 1024))
}
