import { relative } from 'node:path'
import type { FleetEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { hostUrls } from '../../base/postgres-url.ts'
import { usageError } from '../args.ts'
import { plural } from '../output.ts'
import { launch } from './child.ts'
import type { DataFolder } from './data.ts'
import { isInstalled, type Program } from './install.ts'
import type { AppNeeds } from './needs.ts'
import { mainFile } from './node.ts'
import { embeddedPostgres, hasPostgres, postgresProgram, startPostgres } from './postgres.ts'
import { redisProgram, startRedis } from './redis.ts'
import { assertReachable, lastLines, type Server } from './server.ts'

/** The servers that `fleet up` can start. */
export const serverNames = ['redis', 'postgres'] as const
export type ServerName = (typeof serverNames)[number]

export interface DependencyOptions {
  env: FleetEnv
  needs: AppNeeds
  /** Servers to start although the app does not seem to use them. */
  include: ReadonlySet<ServerName>
  /** Servers not to start. */
  exclude: ReadonlySet<ServerName>
  /** Apply the migrations to the database of DATABASE_URL. */
  migrate: boolean
  /** Create users of the reference application. */
  seed: boolean
  /** Where servers keep their files. @default a temporary folder */
  data?: DataFolder
  /** Whether missing programs may be installed. */
  install: boolean
  onEvent(line: string): void
  /** Called with what the user should know once the fleet runs. */
  onNote(text: string): void
}

/** A database or Redis: its description and the variables for instances. */
export interface Dependency {
  readonly description: string
  readonly server?: Server
  readonly env: Readonly<Record<string, string>>
  /** Whether all instances use it. */
  readonly shared: boolean
}

/** How the environment names a Redis. */
const redisVariables = ['REDIS_URL', 'REDIS_SENTINELS', 'REDIS_CLUSTER', 'REDIS_HOST'] as const
const namedRedis = (env: FleetEnv) => redisVariables.find((name) => env[name])

/** @throws FLEET_ERR_USAGE when a server is excluded and named by the environment */
export function checkExcluded({ env, exclude }: Pick<DependencyOptions, 'env' | 'exclude'>): void {
  const named = { redis: namedRedis(env), postgres: env.DATABASE_URL && 'DATABASE_URL' }
  for (const name of exclude) {
    if (named[name])
      throw usageError(`--without ${name} and ${named[name]} contradict each other; unset ${named[name]}`)
  }
}

/** Programs that have to be installed before the servers can start. */
export async function missingPrograms(options: DependencyOptions): Promise<Program[]> {
  const missing: Program[] = []
  if (startsRedis(options) && !isInstalled(redisProgram)) missing.push(redisProgram)
  if (startsPostgres(options) && !(await hasPostgres())) missing.push(postgresProgram)
  return missing
}

const startsRedis = ({ env, exclude }: DependencyOptions): boolean => !exclude.has('redis') && !namedRedis(env)
const startsPostgres = ({ env, needs, include, exclude }: DependencyOptions): boolean =>
  !env.DATABASE_URL && !exclude.has('postgres') && (include.has('postgres') || needs.postgres !== undefined)

const inMemory: Dependency = { description: 'memory of the only instance', env: {}, shared: false }

/** @throws FLEET_ERR_SERVICE_FAILED */
export async function provideRedis(options: DependencyOptions): Promise<Dependency> {
  const { env, install, onEvent, onNote } = options
  const named = namedRedis(env)
  if (named) {
    if (env.REDIS_URL) await assertReachable('REDIS_URL', env.REDIS_URL, 6379)
    return { description: `Redis named by ${named}`, env: {}, shared: true }
  }
  if (!startsRedis(options)) {
    onNote('without Redis, one instance runs with its state in memory')
    return inMemory
  }
  onEvent('starting Redis')
  try {
    const server = await startRedis({ install, onProgress: onEvent, data: options.data?.folder('redis') })
    return { description: `Redis on port ${server.port}`, server, env: { REDIS_URL: server.url }, shared: true }
  } catch (error) {
    // The installation was allowed and failed.
    if (!(error instanceof FleetError) || error.code !== 'FLEET_ERR_PROGRAM_MISSING') throw error
    onNote(`${error.message}; without it, one instance runs with its state in memory`)
    return inMemory
  }
}

/** @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
export async function providePostgres(options: DependencyOptions): Promise<Dependency> {
  const { env, needs, include, install, onEvent } = options
  if (env.DATABASE_URL) {
    for (const url of hostUrls(env.DATABASE_URL)) await assertReachable('DATABASE_URL', url, 5432)
    const applied = options.migrate ? await migrate(options, {}) : await notePending(options)
    return { description: `PostgreSQL named by DATABASE_URL${applied}`, env: {}, shared: true }
  }
  if (!startsPostgres(options)) {
    const description = needs.postgres
      ? 'nothing: --without postgres'
      : 'nothing: the app does not seem to use PostgreSQL (see --with)'
    return { description, env: {}, shared: true }
  }
  onEvent(`starting PostgreSQL: ${include.has('postgres') ? '--with postgres' : needs.postgres}`)
  // The npm package is preferred to an installation.
  const program = isInstalled(postgresProgram) ? undefined : await embeddedPostgres()
  const data = options.data && { folder: options.data.folder('postgres'), password: options.data.secret('postgres') }
  const server = await startPostgres({ program, install, onProgress: onEvent, data })
  const url = { DATABASE_URL: server.url }
  const applied = await migrate(options, url)
  return { description: `PostgreSQL on port ${server.port}${applied}`, server, env: url, shared: true }
}

/** @returns what was done, to be appended to the description of the database */
async function migrate(options: DependencyOptions, env: Readonly<Record<string, string>>): Promise<string> {
  if (options.needs.migrations === undefined) return ''
  options.onEvent('migrating the database')
  // Users with known passwords are for development only.
  await runMigrate(options.needs.migrations, options.seed && !options.env.production ? ['--seed'] : [], env)
  return `, migrated by ${relative('', options.needs.migrations)}`
}

/** The database may be another's: its schema changes only on request. */
async function notePending({ needs, onNote }: DependencyOptions): Promise<string> {
  if (needs.migrations === undefined) return ''
  const output = await runMigrate(needs.migrations, ['--dry-run'], {})
  const count = output.match(/^would apply/gm)?.length ?? 0
  if (count > 0) onNote(`the database of DATABASE_URL lacks ${plural(count, 'migration')}; \`--migrate\` applies them`)
  return ''
}

async function runMigrate(folder: string, more: readonly string[], env: Record<string, string>): Promise<string> {
  const args = [...process.execArgv, mainFile, 'migrate', '--dir', folder, ...more]
  const child = launch(process.execPath, args, { env })
  const { code } = await child.exit
  if (code !== 0) throw new FleetError('FLEET_ERR_SERVICE_FAILED', `the database: ${lastLines(child)}`)
  return child.stdout
}
