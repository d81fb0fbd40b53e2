import { existsSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { readEnv } from '../../base/env.ts'
import { type MigrateResult, migrate } from '../../database/migrate.ts'
import { type Command, defineCommand, flag, integerOption, option, usageError } from '../args.ts'

const command: Command = defineCommand({
  name: 'migrate',
  summary: 'Apply Prisma’s migrations to the database, without the Prisma CLI',
  usage: `fleet migrate [options]

Applies the migrations to the database of DATABASE_URL. It uses the table of \`prisma migrate deploy\`, so both can be used in turn.
Several instances may run it at the same time. It needs a direct connection, because a pooler in transaction mode loses the
lock.`,
  options: {
    dir: option('DIRECTORY of the migrations', { default: 'prisma/migrations' }),
    seed: flag('Then run seed.ts, seed.js or seed.mjs beside that directory'),
    'dry-run': flag('Print the pending migrations without applying them'),
    'rolled-back': option('NAME of a failed migration that was rolled back; it is applied again'),
    'lock-timeout': option('SECONDS to wait for the lock of another migration', { default: '60' }),
  },
  async run({ values, positionals, out }) {
    if (positionals.length > 0) throw usageError('`fleet migrate` takes options only')
    const { DATABASE_URL: url } = readEnv()
    if (url === undefined) throw usageError('set DATABASE_URL, e.g. postgresql://user:password@host:5432/database')
    const directory = resolve(values.dir)
    const seed = values.seed ? seedFile(directory) : undefined
    const dryRun = values['dry-run'] === true

    const rolledBack = values['rolled-back']
    const lockTimeoutMs = integerOption('lock-timeout', values['lock-timeout'], 1, 3_600) * 1000
    const label = dryRun ? 'comparing' : 'migrating'
    const result = await out.during(label, () => migrate({ url, directory, dryRun, rolledBack, lockTimeoutMs }))
    for (const name of result.applied) out.line(`${dryRun ? 'would apply' : 'applied'} ${name}`)
    out.line(summary(result, dryRun))
    if (seed !== undefined && !dryRun) {
      await import(pathToFileURL(seed).href)
      out.line(`seeded by ${relative('', seed)}`)
    }
    out.result({ ...result, dryRun, seeded: seed !== undefined && !dryRun })
    return 0
  },
})
export default command

function summary({ applied, before }: MigrateResult, dryRun: boolean): string {
  if (applied.length === 0) return `up to date, ${before} applied before`
  return dryRun ? `${applied.length} to apply, ${before} applied before` : `up to date, ${applied.length} applied now`
}

function seedFile(directory: string): string {
  const names = ['seed.ts', 'seed.js', 'seed.mjs'].map((name) => join(dirname(directory), name))
  const file = names.find((name) => existsSync(name))
  if (file) return file
  throw usageError(`\`--seed\` requires seed.ts, seed.js or seed.mjs in ${dirname(directory)}`)
}
