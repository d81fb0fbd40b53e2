// What other programs know: the app about itself, pm2, Docker and Kustomize about their files. They run in this process's environment,
// before the files are examined in a thread without it, and only for what the user has named.

import { dirname, resolve } from 'node:path'
import { Operators } from '../../operators.ts'
import { Target } from '../../target.ts'
import type { Source } from '../facts.ts'
import { kindOf } from '../files.ts'
import { askApp } from './app.ts'
import type { AppReport } from './check-hook.ts'
import { composeConfig } from './compose.ts'
import { kustomize } from './kustomize.ts'
import { evaluatePm2 } from './pm2.ts'

export interface Programs {
  /** Files of apps to start in check mode. */
  readonly apps?: readonly string[]
  /** A running instance. */
  readonly url?: string
  readonly token?: string
  readonly insecure?: boolean
}

/**
 * The sources with what the programs of the named ones report.
 *
 * @throws FLEET_ERR_USAGE when an app reports nothing, FLEET_ERR_UNREACHABLE and FLEET_ERR_NOT_OPERATOR of an instance
 */
export async function evaluateNamed(sources: readonly Source[], programs: Programs): Promise<Source[]> {
  const { apps = [], url } = programs
  const asked: Source[] = []
  for (const file of apps) asked.push({ file, text: '', kind: 'app', named: true, evaluated: await askApp(file) })
  if (url !== undefined)
    asked.push({ file: url, text: '', kind: 'app', named: true, evaluated: await ask(url, programs) })
  const evaluated = await Promise.all(sources.map((source) => evaluate(source)))
  return [...(await withCompose(evaluated)), ...asked]
}

async function ask(url: string, { token, insecure }: Programs): Promise<AppReport> {
  const { configuration, checks } = await new Operators(new Target(url, { insecure }), token).effective()
  return { doctor: 'report', app: { ...(configuration as NonNullable<AppReport['app']>), checks } as AppReport['app'] }
}

async function evaluate(source: Source): Promise<Source> {
  if (!source.named) return source
  if (/kustomization\.ya?ml$/.test(source.file)) return await kustomize(source)
  const isProgram = kindOf(source) === 'pm2' && /\.[cm]?js$/.test(source.file)
  return isProgram ? { ...source, evaluated: await evaluatePm2(source.file) } : source
}

/** The named files of a folder are one project. */
async function withCompose(sources: readonly Source[]): Promise<readonly Source[]> {
  const files = sources.filter((source) => source.named && kindOf(source) === 'compose')
  const projects = new Map<Source, unknown>()
  for (const group of Map.groupBy(files, ({ file }) => dirname(resolve(file))).values()) {
    const model = await composeConfig(group.map(({ file }) => file))
    for (const source of group) projects.set(source, model)
  }
  return sources.map((source) =>
    projects.get(source) === undefined ? source : { ...source, evaluated: projects.get(source) },
  )
}
