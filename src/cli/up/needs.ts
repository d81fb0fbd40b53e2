import { globSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { member } from '../target.ts'

/** What an app uses, according to its files. */
export interface AppNeeds {
  /** Why it needs PostgreSQL, e.g. `package.json depends on pg`; absent: nothing says so. */
  readonly postgres?: string
  /** Its folder of Prisma migrations for PostgreSQL, if any. */
  readonly migrations?: string
}

/** Packages that connect to PostgreSQL. */
const drivers = ['pg', 'postgres', '@fastify/postgres', '@prisma/adapter-pg']
/** Where Prisma looks for a schema. */
const schemas = ['prisma/schema.prisma', 'schema.prisma', 'prisma/schema/*.prisma']

/** Looks in the folder of the app: the nearest one with a package.json, else that of the program. */
export function findNeeds(program: string): AppNeeds {
  const folder = appFolder(program)
  return { postgres: whyPostgres(folder), migrations: migrationsOf(folder) }
}

const appFolder = (program: string): string => projectFolder(dirname(resolve(program)))

/** The nearest folder with a package.json, from `own` upwards, else `own`. */
export function projectFolder(own: string): string {
  for (let folder = own; ; folder = dirname(folder)) {
    if (read(join(folder, 'package.json')) !== undefined) return folder
    if (folder === dirname(folder)) return own
  }
}

function whyPostgres(folder: string): string | undefined {
  const found = globSync(schemas, { cwd: folder }).sort()
  const schema = found.find((name) => /^\s*provider\s*=\s*"postgres(ql)?"/m.test(read(join(folder, name)) ?? ''))
  if (schema) return `${relative('', join(folder, schema))} is for PostgreSQL`
  // A schema for another database rules out Prisma's client as a sign.
  const packages = found.length > 0 ? drivers : [...drivers, '@prisma/client']
  const dependencies = member(packageOf(folder), 'dependencies')
  const used = packages.find((name) => typeof member(dependencies, name) === 'string')
  return used && `package.json depends on ${used}`
}

function migrationsOf(folder: string): string | undefined {
  const migrations = join(folder, 'prisma/migrations')
  const provider = /^\s*provider\s*=\s*"(.*)"/m.exec(read(join(migrations, 'migration_lock.toml')) ?? '')?.[1]
  return isFolder(migrations) && (provider ?? 'postgresql') === 'postgresql' ? migrations : undefined
}

function packageOf(folder: string): unknown {
  try {
    return JSON.parse(read(join(folder, 'package.json')) ?? '{}')
  } catch {
    return undefined
  }
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
