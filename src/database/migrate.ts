import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Client } from 'pg'
import { FleetError } from '../base/errors.ts'
import { hostUrls } from '../base/postgres-url.ts'

export interface MigrateOptions {
  /** `postgresql://…`; `?schema=` chooses another schema than `public`, as in Prisma. */
  url: string
  /** Prisma's directory of migrations: `migration_lock.toml`, and a folder with `migration.sql` for each. */
  directory: string
  /** How long to wait for another process that migrates, 1 to 3,600,000 ms. @default 60000 */
  lockTimeoutMs?: number
  /** A failed migration to mark as rolled back first, so that it is applied again. */
  rolledBack?: string
  /** Say what would be applied, and leave it at that. @default false */
  dryRun?: boolean
}

export interface MigrateResult {
  /** Names of the migrations just applied (with `dryRun`: to be applied), in order. */
  applied: readonly string[]
  /** How many had been applied before. */
  before: number
}

export interface Migration {
  readonly name: string
  readonly script: string
}

/** A row of Prisma's table, as far as it matters here. */
export interface AppliedMigration {
  migration_name: string
  checksum: string
  finished_at: Date | null
  rolled_back_at: Date | null
}

/** Prisma's own, so that `prisma migrate deploy` and this wait for each other. */
const advisoryLock = 72_707_369

/** As Prisma's schema engine creates it. */
const bookkeeping = (table: string): string => `CREATE TABLE IF NOT EXISTS ${table} (
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
    throw new FleetError('FLEET_ERR_MIGRATION_INVALID', `there is no directory ${directory}`)
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
        throw new FleetError('FLEET_ERR_MIGRATION_INVALID', `there is no ${file}; restore it, or remove its folder`)
      })
      return { name, script }
    }),
  )
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

/** As in Prisma, line ends do not count: version control may have changed them. */
function matches(script: string, checksum: string): boolean {
  const unix = script.replaceAll('\r\n', '\n')
  return [script, unix, unix.replaceAll('\n', '\r\n')].some((variant) => sha256(variant) === checksum)
}

/**
 * What is still to be applied. Rows without a file are no trouble: an older version of the app may be started again.
 *
 * @throws FLEET_ERR_MIGRATION_FAILED, FLEET_ERR_MIGRATION_CHANGED
 */
export function pending(migrations: readonly Migration[], rows: readonly AppliedMigration[]): Migration[] {
  const live = rows.filter((row) => row.rolled_back_at === null)
  const failed = live.find((row) => row.finished_at === null)
  if (failed)
    throw new FleetError(
      'FLEET_ERR_MIGRATION_FAILED',
      `${failed.migration_name} did not end in an earlier run, so nothing more is applied; ${mend(failed.migration_name)}`,
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
 * Applies Prisma's migrations without the Prisma CLI (306 MB), with its own bookkeeping: the same table, checksums and
 * lock, so that both can be used in turn. Processes that start at the same time wait for each other; the first one
 * migrates. A script is sent as a whole, hence one transaction unless it says otherwise.
 *
 * @throws FLEET_ERR_MIGRATION_INVALID, FLEET_ERR_MIGRATION_CHANGED, FLEET_ERR_MIGRATION_FAILED,
 * FLEET_ERR_MIGRATION_LOCKED, FLEET_ERR_DATABASE_UNAVAILABLE, FLEET_ERR_PACKAGE_MISSING
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  const migrations = await readMigrations(options.directory)
  const { client, table } = await connect(options.url)
  try {
    await lock(client, options.lockTimeoutMs ?? 60_000)
    if (options.rolledBack !== undefined && !options.dryRun) await markRolledBack(client, table, options.rolledBack)
    const todo = pending(migrations, await readRows(client, table))
    if (options.dryRun !== true) {
      if (todo.length > 0) await client.query(bookkeeping(table))
      for (const migration of todo) await apply(client, table, migration)
    }
    return { applied: todo.map(({ name }) => name), before: migrations.length - todo.length }
  } catch (error) {
    throw unavailable(error)
  } finally {
    // Ends the session, and the lock with it.
    await client.end().catch(() => {})
  }
}

function unavailable(error: unknown): FleetError {
  if (error instanceof FleetError) return error
  const { message, code } = error as SqlError
  return new FleetError('FLEET_ERR_DATABASE_UNAVAILABLE', message || code, { cause: error })
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

async function connect(url: string): Promise<{ client: Client; table: string }> {
  const { Client } = await import('pg').then(
    (pg) => pg.default,
    (cause) => {
      throw new FleetError('FLEET_ERR_PACKAGE_MISSING', '`fleet migrate` needs pg: npm install pg', { cause })
    },
  )
  const urls = hostUrls(url)
  const schema = URL.parse(urls[0] ?? url)?.searchParams.get('schema')
  // As a setting of the connection it survives `RESET ALL`.
  const options = schema ? `-c search_path=${quoted(schema).replaceAll(/[\\\s]/g, '\\$&')}` : undefined
  let failure: unknown
  // Of several servers, the one that takes writes.
  for (const connectionString of urls) {
    try {
      const client = new Client({ connectionString, connectionTimeoutMillis: 10_000, options })
      // Without a listener a connection that breaks between two queries would end the process.
      client.on('error', () => {})
      await client.connect()
      if (urls.length > 1 && (await isStandby(client))) {
        await client.end()
        throw new Error('no server of the list takes writes')
      }
      if (schema) await client.query(`CREATE SCHEMA IF NOT EXISTS ${quoted(schema)}`)
      const { rows } = await client.query<{ schema: string | null }>('SELECT current_schema() AS schema')
      // With its schema: a script may change where names are looked for, as those of pg_dump do.
      return { client, table: `${quoted(rows[0]?.schema ?? 'public')}._prisma_migrations` }
    } catch (error) {
      failure = error
    }
  }
  throw unavailable(failure)
}

async function isStandby(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby')
  return rows[0]?.standby === true
}

async function lock(client: Client, timeoutMs: number): Promise<void> {
  await client.query(`SET lock_timeout = ${timeoutMs}`)
  try {
    await client.query('SELECT pg_advisory_lock($1)', [advisoryLock])
  } catch (error) {
    if ((error as { code?: string }).code !== '55P03') throw error
    throw new FleetError('FLEET_ERR_MIGRATION_LOCKED', `for more than ${timeoutMs} ms; run it again later`)
  }
  // For the scripts the server's own setting counts.
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
  if (!failed) throw new FleetError('FLEET_ERR_MIGRATION_INVALID', `${name} is no failed migration of this database`)
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
    // Does nothing, unless the script began a transaction and did not end it.
    await client.query('COMMIT')
  } catch (error) {
    const reason = describe(error as SqlError, script)
    // The row is how the next run, ours or Prisma's, knows. It is there already if this connection is what broke.
    await client
      .query('ROLLBACK')
      .then(() => client.query(`UPDATE ${table} SET logs = $2 WHERE id = $1`, [id, reason]))
      .catch(() => {})
    throw new FleetError('FLEET_ERR_MIGRATION_FAILED', `${name}: ${reason}; ${mend(name)}`, { cause: error })
  }
  await client.query(
    `UPDATE ${table} SET finished_at = clock_timestamp(), applied_steps_count = applied_steps_count + 1 WHERE id = $1`,
    [id],
  )
  // What one script sets is not meant for the next.
  await client.query('RESET ALL')
}

const mend = (name: string): string =>
  `correct its script, see that nothing of it is left, then run: fleet migrate --rolled-back ${name}`

interface SqlError extends Error {
  code?: string
  /** Of the character in the script, from 1. */
  position?: string
}

function describe({ message, code, position }: SqlError, script: string): string {
  const line = position === undefined ? '' : ` at line ${script.slice(0, Number(position)).split('\n').length}`
  return `${message}${line}${code === undefined ? '' : ` (SQLSTATE ${code})`}`
}
