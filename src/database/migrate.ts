import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Client } from 'pg'
import { FleetError } from '../base/errors.ts'
import { installedPg } from './pools.ts'
import { quoted, serverUrls } from './server-url.ts'

export interface MigrateOptions {
  /** `postgresql://…`; `?schema=` selects a schema other than `public`, as in Prisma. */
  url: string
  /** Prisma's migrations directory: `migration_lock.toml` and a folder with `migration.sql` per migration. */
  directory: string
  /** How long to wait while another process migrates, 1 to 3,600,000 ms. @default 60000 */
  lockTimeoutMs?: number
  /** A failed migration to mark as rolled back before the start, so that it is applied again. */
  rolledBack?: string
  /** Report what would be applied without applying it. @default false */
  dryRun?: boolean
}

export interface MigrateResult {
  /** Names of the migrations applied by this run (with `dryRun`: to be applied), in order. */
  applied: readonly string[]
  /** Number of migrations applied before. */
  before: number
}

export interface Migration {
  readonly name: string
  readonly script: string
}

/** The columns in use of a row of Prisma's table. */
export interface AppliedMigration {
  migration_name: string
  checksum: string
  finished_at: Date | null
  rolled_back_at: Date | null
}

/** The same key as Prisma's, so that `prisma migrate deploy` and `migrate` exclude each other. */
const advisoryLock = 72_707_369

/** The table as Prisma's schema engine creates it. */
const historyTable = (table: string): string => `CREATE TABLE IF NOT EXISTS ${table} (
    id                      VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum                VARCHAR(64) NOT NULL,
    finished_at             TIMESTAMPTZ,
    migration_name          VARCHAR(255) NOT NULL,
    logs                    TEXT,
    rolled_back_at          TIMESTAMPTZ,
    started_at              TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count     INTEGER NOT NULL DEFAULT 0
)`

/** @throws FLEET_ERR_MIGRATION_INVALID */
export async function readMigrations(directory: string): Promise<Migration[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => {
    throw new FleetError('FLEET_ERR_MIGRATION_INVALID', `directory ${directory} does not exist`)
  })
  const lock = await readFile(join(directory, 'migration_lock.toml'), 'utf8').catch(() => '')
  const provider = /^\s*provider\s*=\s*"(.*)"/m.exec(lock)?.[1] ?? 'postgresql'
  if (provider !== 'postgresql')
    throw new FleetError('FLEET_ERR_MIGRATION_INVALID', `${directory} is for ${provider}, not for postgresql`)
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name)
  return Promise.all(
    names.sort().map(async (name) => {
      const file = join(directory, name, 'migration.sql')
      const script = await readFile(file, 'utf8').catch(() => {
        throw new FleetError('FLEET_ERR_MIGRATION_INVALID', `${file} does not exist; restore it, or remove its folder`)
      })
      return { name, script }
    }),
  )
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

/** As in Prisma, line endings are ignored: version control may have changed them. */
function matches(script: string, checksum: string): boolean {
  const unix = script.replaceAll('\r\n', '\n')
  return [script, unix, unix.replaceAll('\n', '\r\n')].some((variant) => sha256(variant) === checksum)
}

/**
 * Returns the migrations that are not applied yet. Rows without a file are ignored, so that an older version of the app can
 * be started again.
 *
 * @throws FLEET_ERR_MIGRATION_FAILED, FLEET_ERR_MIGRATION_CHANGED
 */
export function pending(migrations: readonly Migration[], rows: readonly AppliedMigration[]): Migration[] {
  const live = rows.filter((row) => row.rolled_back_at === null)
  const failed = live.find((row) => row.finished_at === null)
  if (failed)
    throw new FleetError(
      'FLEET_ERR_MIGRATION_FAILED',
      `${failed.migration_name} did not complete in an earlier run, so no further one is applied; ${fix(failed.migration_name)}`,
    )
  const known = new Map(live.map((row) => [row.migration_name, row.checksum]))
  for (const { name, script } of migrations) {
    const checksum = known.get(name)
    if (checksum !== undefined && !matches(script, checksum))
      throw new FleetError(
        'FLEET_ERR_MIGRATION_CHANGED',
        `${name}; restore migration.sql as it was applied, and make the change in a new migration`,
      )
  }
  return migrations.filter(({ name }) => !known.has(name))
}

/**
 * Applies Prisma's migrations without the Prisma CLI (306 MB). It uses the CLI's table, checksums and lock, so both can be
 * used alternately. Processes that start at the same time wait for each other; the first one migrates. A script is sent as
 * a whole, so it is one transaction unless the script ends it.
 *
 * @throws FLEET_ERR_MIGRATION_INVALID, FLEET_ERR_MIGRATION_CHANGED, FLEET_ERR_MIGRATION_FAILED,
 * FLEET_ERR_MIGRATION_LOCKED, FLEET_ERR_DATABASE_UNAVAILABLE, FLEET_ERR_PACKAGE_MISSING
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  const migrations = await readMigrations(options.directory)
  const { client, schema } = await connect(options.url)
  try {
    await lock(client, options.lockTimeoutMs ?? 60_000)
    // Qualified with the schema: a script may change the search path, as those of pg_dump do.
    const table = `${quoted(schema ?? (await currentSchema(client)))}._prisma_migrations`
    if (options.rolledBack !== undefined && !options.dryRun) await markRolledBack(client, table, options.rolledBack)
    const todo = pending(migrations, await readRows(client, table))
    if (options.dryRun !== true && todo.length > 0) {
      if (schema) await createSchema(client, schema)
      await client.query(historyTable(table))
      for (const migration of todo) await apply(client, table, migration)
    }
    return { applied: todo.map(({ name }) => name), before: migrations.length - todo.length }
  } catch (error) {
    throw unavailable(error)
  } finally {
    // Ends the session, and so releases the lock.
    await client.end().catch(() => {})
  }
}

function unavailable(error: unknown): FleetError {
  if (error instanceof FleetError) return error
  const { message, code } = error as SqlError
  return new FleetError('FLEET_ERR_DATABASE_UNAVAILABLE', message || code, { cause: error })
}

/** Connects to the server, or of several to the one that accepts writes. */
async function connect(url: string): Promise<{ client: Client; schema: string | undefined }> {
  const { Client } = (await installedPg('fleet migrate')) as typeof import('pg')
  const { urls, settings } = serverUrls(url, 'the URL of the database')
  const { schema, connectTimeoutMs: connectionTimeoutMillis = 10_000 } = settings
  let failure: unknown
  for (const connectionString of urls) {
    const client = new Client({ connectionString, connectionTimeoutMillis })
    // Without a listener a connection that breaks between two queries would end the process.
    client.on('error', () => {})
    try {
      await client.connect()
      if (urls.length > 1 && (await isStandby(client))) throw new Error('no server of the list accepts writes')
      return { client, schema }
    } catch (error) {
      failure = error
      // An open connection would keep the process running. A server that does not respond must not delay the next one.
      client.end().catch(() => {})
    }
  }
  throw unavailable(failure)
}

async function isStandby(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby')
  return rows[0]?.standby === true
}

async function currentSchema(client: Client): Promise<string> {
  const { rows } = await client.query<{ schema: string | null }>('SELECT current_schema() AS schema')
  return rows[0]?.schema ?? 'public'
}

/** `IF NOT EXISTS` alone needs the right to create schemas even where the schema exists. */
async function createSchema(client: Client, schema: string): Promise<void> {
  const { rows } = await client.query('SELECT to_regnamespace($1) IS NOT NULL AS exists', [quoted(schema)])
  if (!rows[0].exists) await client.query(`CREATE SCHEMA IF NOT EXISTS ${quoted(schema)}`)
}

async function lock(client: Client, timeoutMs: number): Promise<void> {
  await client.query(`SET lock_timeout = ${timeoutMs}`)
  try {
    await client.query('SELECT pg_advisory_lock($1)', [advisoryLock])
  } catch (error) {
    if ((error as { code?: string }).code !== '55P03') throw error
    throw new FleetError('FLEET_ERR_MIGRATION_LOCKED', `for more than ${timeoutMs} ms; run it again later`)
  }
  // The scripts run with the server's own setting.
  await client.query('RESET lock_timeout')
}

async function readRows(client: Client, table: string): Promise<AppliedMigration[]> {
  const { rows } = await client.query('SELECT to_regclass($1) IS NOT NULL AS exists', [table])
  if (!rows[0].exists) return []
  const columns = 'migration_name, checksum, finished_at, rolled_back_at'
  return (await client.query<AppliedMigration>(`SELECT ${columns} FROM ${table} ORDER BY started_at`)).rows
}

async function markRolledBack(client: Client, table: string, name: string): Promise<void> {
  const failed = (await readRows(client, table)).some(
    (row) => row.migration_name === name && row.finished_at === null && row.rolled_back_at === null,
  )
  if (!failed) throw new FleetError('FLEET_ERR_MIGRATION_INVALID', `${name} is not a failed migration of this database`)
  await client.query(
    `UPDATE ${table} SET rolled_back_at = now()
      WHERE migration_name = $1 AND finished_at IS NULL AND rolled_back_at IS NULL`,
    [name],
  )
}

async function apply(client: Client, table: string, { name, script }: Migration): Promise<void> {
  const id = randomUUID()
  await client.query(
    `INSERT INTO ${table} (id, checksum, migration_name, started_at) VALUES ($1, $2, $3, clock_timestamp())`,
    [id, sha256(script), name],
  )
  try {
    await client.query(script)
    // Has an effect only if the script began a transaction without ending it.
    await client.query('COMMIT')
  } catch (error) {
    const reason = describe(error as SqlError, script)
    // The next run, ours or Prisma's, reads the failure from this row, which exists even if the connection broke.
    await client
      .query('ROLLBACK')
      .then(() => client.query(`UPDATE ${table} SET logs = $2 WHERE id = $1`, [id, reason]))
      .catch(() => {})
    throw new FleetError('FLEET_ERR_MIGRATION_FAILED', `${name}: ${reason}; ${fix(name)}`, { cause: error })
  }
  await client.query(
    `UPDATE ${table} SET finished_at = clock_timestamp(), applied_steps_count = applied_steps_count + 1 WHERE id = $1`,
    [id],
  )
  // Settings of one script must not affect the next.
  await client.query('RESET ALL')
}

const fix = (name: string): string =>
  `correct its script, remove any partial changes, then run: fleet migrate --rolled-back ${name}`

interface SqlError extends Error {
  code?: string
  /** Index of the character in the script, from 1. */
  position?: string
}

function describe({ message, code, position }: SqlError, script: string): string {
  const line = position === undefined ? '' : ` at line ${script.slice(0, Number(position)).split('\n').length}`
  return `${message}${line}${code === undefined ? '' : ` (SQLSTATE ${code})`}`
}
