import assert from 'node:assert/strict'
import { chmod, cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { migrate, pending, readMigrations } from '../../src/database/migrate.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'
import { newDatabase, query, type Row } from './databases.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const shipped = join(root, 'prisma/migrations')
let server: PostgresServer
before(async () => {
  server = await startPostgres()
})

/** Writes a migrations directory from name → script. */
async function directory(scripts: Record<string, string>, provider = 'postgresql'): Promise<string> {
  const folder = temporaryFolder('migrations')
  for (const [name, script] of Object.entries(scripts)) await write(folder, name, script)
  await writeFile(join(folder, 'migration_lock.toml'), `provider = "${provider}"\n`)
  return folder
}
async function write(folder: string, name: string, script: string): Promise<void> {
  await mkdir(join(folder, name), { recursive: true })
  await writeFile(join(folder, name, 'migration.sql'), script)
}
const rows = (url: string): Promise<Row[]> => query(url, 'SELECT * FROM _prisma_migrations ORDER BY started_at')

/** Runs the Prisma CLI with Prisma's own engine. */
async function prisma(
  url: string,
  migrations: string,
  ...args: string[]
): Promise<{ code: number; stdout: string; text: string }> {
  const folder = temporaryFolder('prisma')
  await cp(join(root, 'prisma/schema.prisma'), join(folder, 'schema.prisma'))
  const engine = join(folder, 'engine')
  await writeFile(engine, `#!/bin/sh\nexec '${process.execPath}' '${root}test/database/schema-engine.ts' "$@"\n`)
  await chmod(engine, 0o755)
  const config = { schema: 'schema.prisma', migrations: { path: migrations }, datasource: { url } }
  await writeFile(join(folder, 'prisma.config.ts'), `export default ${JSON.stringify(config)}\n`)
  const child = launch(process.execPath, [join(root, 'node_modules/prisma/build/index.js'), ...args], {
    cwd: folder,
    env: { PRISMA_SCHEMA_ENGINE_BINARY: engine, CHECKPOINT_DISABLE: '1', PRISMA_HIDE_UPDATE_MESSAGE: '1' },
  })
  const { code } = await child.exit
  return { code: code ?? -1, stdout: child.stdout, text: child.stdout + child.stderr }
}

/** Columns, indexes and constraints from PostgreSQL's catalogue. */
const shape = (url: string): Promise<Row[]> =>
  query(
    url,
    `SELECT table_name AS t, concat_ws(' ', column_name, data_type, datetime_precision, is_nullable, column_default) AS d
       FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%'
     UNION ALL SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE '\\_%'
     UNION ALL SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
       WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE '\\_%' ORDER BY 1, 2`,
  )

/** Runs `fleet migrate` in a separate process. */
const fleetMigrate = (url: string | undefined, ...args: string[]) =>
  launch(process.execPath, [join(root, 'src/cli/main.ts'), 'migrate', ...args], {
    cwd: root,
    env: { DATABASE_URL: url, NODE_ENV: undefined, NODE_TEST_CONTEXT: undefined },
  })

// Concurrent, because each has its own database and mostly waits for other programs.
describe('migrate', { concurrency: 3 }, () => {
  test('applies the shipped migrations once, and leaves the same rows as Prisma', async () => {
    const url = await newDatabase(server)
    const names = (await readMigrations(shipped)).map(({ name }) => name)
    assert.deepEqual(await migrate({ url, directory: shipped }), { applied: names, before: 0 })
    assert.deepEqual(await migrate({ url, directory: shipped }), { applied: [], before: names.length })
    for (const row of await rows(url)) {
      assert.match(String(row.id), /^[0-9a-f-]{36}$/)
      assert.match(String(row.checksum), /^[0-9a-f]{64}$/)
      assert.ok(row.finished_at instanceof Date && row.started_at instanceof Date)
      assert.deepEqual([row.applied_steps_count, row.rolled_back_at, row.logs], [1, null, null])
    }
    assert.deepEqual(await query(url, 'SELECT * FROM users'), [])
  })

  test('reads migrations without a lock file, or with one that names no provider', async () => {
    const folder = await directory({ '2_b': '', '1_a': 'SELECT 1' })
    await writeFile(join(folder, 'migration_lock.toml'), '# edited\n')
    const names = async () => (await readMigrations(folder)).map(({ name }) => name)
    assert.deepEqual(await names(), ['1_a', '2_b'])
    await rm(join(folder, 'migration_lock.toml'))
    assert.deepEqual(await names(), ['1_a', '2_b'])
  })

  test('Prisma accepts migrations that we applied, and finds the schema up to date', async () => {
    const url = await newDatabase(server)
    await migrate({ url, directory: shipped })
    const deploy = await prisma(url, shipped, 'migrate', 'deploy')
    assert.match(deploy.text, /No pending migrations to apply/)
    assert.equal(deploy.code, 0)
    const status = await prisma(url, shipped, 'migrate', 'status')
    assert.match(status.text, /Database schema is up to date/)
    const wanted = await prisma(
      url,
      shipped,
      'migrate',
      'diff',
      '--from-empty',
      '--to-schema',
      'schema.prisma',
      '--script',
    )
    const other = await newDatabase(server)
    await query(other, wanted.stdout)
    assert.ok((await shape(other)).length > 5, wanted.text)
    assert.deepEqual(await shape(url), await shape(other))
  })

  test('we accept migrations that Prisma applied, with an identical table', async () => {
    const [ours, theirs] = [await newDatabase(server), await newDatabase(server)]
    const folder = await directory({ '1_a': 'CREATE TABLE a ()', '2_b': 'CREATE TABLE b ()' })
    assert.equal((await prisma(theirs, folder, 'migrate', 'deploy')).code, 0)
    assert.deepEqual(await migrate({ url: theirs, directory: folder }), { applied: [], before: 2 })
    await migrate({ url: ours, directory: folder })
    const kept = async (url: string) =>
      (await rows(url)).map(({ migration_name, checksum }) => [migration_name, checksum])
    assert.deepEqual(await kept(ours), await kept(theirs))
    const columns = `SELECT column_name, data_type, character_maximum_length, is_nullable, column_default
    FROM information_schema.columns WHERE table_name = '_prisma_migrations' ORDER BY ordinal_position`
    assert.deepEqual(await query(ours, columns), await query(theirs, columns))
  })

  test('applies each migration once when three processes start at the same time', async () => {
    const url = await newDatabase(server)
    const folder = await directory({
      '1_slow': 'CREATE TABLE counted (n int); SELECT pg_sleep(0.2); INSERT INTO counted VALUES (1)',
      '2_more': 'INSERT INTO counted VALUES (2)',
    })
    const runs = [1, 2, 3].map(() => fleetMigrate(url, '--dir', folder, '--json'))
    assert.deepEqual(await Promise.all(runs.map(async (run) => (await run.exit).code)), [0, 0, 0])
    const applied = runs.map((run) => JSON.parse(run.stdout).applied.length).sort()
    assert.deepEqual(applied, [0, 0, 2])
    assert.deepEqual(await query(url, 'SELECT n FROM counted ORDER BY n'), [{ n: 1 }, { n: 2 }])
    assert.equal((await rows(url)).length, 2)
  })

  test('waits for Prisma’s lock, up to lockTimeoutMs', async () => {
    const url = await newDatabase(server)
    const holder = new pg.Client({ connectionString: url })
    await holder.connect()
    await holder.query('SELECT pg_advisory_lock(72707369)')
    const locked = migrate({ url, directory: shipped, lockTimeoutMs: 50 })
    await assert.rejects(locked, { code: 'FLEET_ERR_MIGRATION_LOCKED' })
    const waiting = migrate({ url, directory: shipped })
    await until(
      async () => (await query(url, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")).length,
    )
    await holder.end()
    assert.equal((await waiting).before, 0)
  })

  test('rejects a script that changed after it was applied, except for line endings', async () => {
    const url = await newDatabase(server)
    const folder = await directory({ '1_a': 'CREATE TABLE a ();\nCREATE TABLE b ();\n' })
    await migrate({ url, directory: folder })
    await write(folder, '1_a', 'CREATE TABLE a ();\r\nCREATE TABLE b ();\r\n')
    await write(folder, '2_c', 'CREATE TABLE c ()')
    assert.deepEqual((await migrate({ url, directory: folder })).applied, ['2_c'])
    await write(folder, '1_a', 'CREATE TABLE a (id int);')
    await write(folder, '3_d', 'CREATE TABLE d ()')
    const changed = migrate({ url, directory: folder })
    await assert.rejects(changed, { code: 'FLEET_ERR_MIGRATION_CHANGED', message: /1_a.*restore/ })
    assert.equal((await rows(url)).length, 2)
  })

  test('a failed migration blocks further ones, for Prisma too, until it is marked as rolled back', async () => {
    const url = await newDatabase(server)
    const folder = await directory({
      '1_a': 'CREATE TABLE a ();',
      '2_bad': 'CREATE TABLE half ();\nCREATE TABLE a ();',
      '3_c': 'CREATE TABLE c ();',
    })
    const failing = migrate({ url, directory: folder })
    await assert.rejects(failing, {
      code: 'FLEET_ERR_MIGRATION_FAILED',
      message: /2_bad: relation "a" already exists \(SQLSTATE 42P07\).*--rolled-back 2_bad/,
    })
    const tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '\\_%'"
    assert.deepEqual(await query(url, tables), [{ tablename: 'a' }], 'nothing of the script is left')

    const again = migrate({ url, directory: folder })
    await assert.rejects(again, {
      code: 'FLEET_ERR_MIGRATION_FAILED',
      message: /2_bad did not complete.*--rolled-back 2_bad/,
    })
    const theirs = await prisma(url, folder, 'migrate', 'deploy')
    assert.match(theirs.text, /failed migrations/)
    assert.match(theirs.text, /2_bad/)
    assert.notEqual(theirs.code, 0)

    await write(folder, '2_bad', 'CREATE TABLE b ();')
    const wrong = migrate({ url, directory: folder, rolledBack: '1_a' })
    await assert.rejects(wrong, { code: 'FLEET_ERR_MIGRATION_INVALID', message: /1_a/ })
    assert.deepEqual((await migrate({ url, directory: folder, rolledBack: '2_bad' })).applied, ['2_bad', '3_c'])
    assert.match((await prisma(url, folder, 'migrate', 'deploy')).text, /No pending migrations/)
    assert.equal((await query(url, "SELECT logs FROM _prisma_migrations WHERE logs LIKE '%already exists%'")).length, 1)
  })

  test('rejects, and recovers from, a migration that failed in Prisma', async () => {
    const url = await newDatabase(server)
    const folder = await directory({ '1_bad': 'CREATE TABLE nonsense (x nonsense)' })
    assert.notEqual((await prisma(url, folder, 'migrate', 'deploy')).code, 0)
    await assert.rejects(migrate({ url, directory: folder }), { code: 'FLEET_ERR_MIGRATION_FAILED' })
    await write(folder, '1_bad', 'CREATE TABLE sense (x int)')
    assert.deepEqual((await migrate({ url, directory: folder, rolledBack: '1_bad' })).applied, ['1_bad'])
  })

  test('scripts may contain functions, end transactions, leave them open, and change the search path', async () => {
    const url = await newDatabase(server)
    const folder = await directory({
      '1_function':
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; RETURN 7; END $$; COMMENT ON FUNCTION f() IS 'a;b'",
      '2_open': 'BEGIN; CREATE TABLE opened ()',
      '3_dump': "SELECT pg_catalog.set_config('search_path', '', false); CREATE TABLE public.dumped ()",
      '4_after': 'CREATE TABLE after_all ()',
    })
    assert.equal((await migrate({ url, directory: folder })).applied.length, 4)
    assert.deepEqual(
      await query(url, 'SELECT f() FROM opened FULL JOIN after_all ON true FULL JOIN dumped ON true'),
      [],
    )
    assert.deepEqual(await query(url, 'SELECT f()'), [{ f: 7 }])
  })

  test('?schema= creates and migrates another schema', async () => {
    const url = await newDatabase(server)
    const folder = await directory({ '1_a': 'CREATE TABLE a ()', '2_b': 'CREATE TABLE b ()' })
    const there = `${url}?schema=${encodeURIComponent('my "own" schema')}`
    assert.equal((await migrate({ url: there, directory: folder })).applied.length, 2)
    assert.equal((await migrate({ url: there, directory: folder })).before, 2)
    const tables = await query(url, `SELECT tablename FROM pg_tables WHERE schemaname = 'my "own" schema' ORDER BY 1`)
    assert.deepEqual(
      tables.map((row) => row.tablename),
      ['_prisma_migrations', 'a', 'b'],
    )
  })

  test('a dry run changes nothing', async () => {
    const url = await newDatabase(server)
    const { applied } = await migrate({ url, directory: shipped, dryRun: true })
    assert.ok(applied.length > 0)
    assert.deepEqual(await query(url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'"), [])
  })

  test('names a directory that cannot be used', async () => {
    const url = await newDatabase(server)
    const invalid = (folder: string, message: RegExp) =>
      assert.rejects(migrate({ url, directory: folder }), { code: 'FLEET_ERR_MIGRATION_INVALID', message })
    await invalid(join(root, 'nowhere'), /directory .*nowhere does not exist/)
    await invalid(await directory({}, 'mysql'), /mysql/)
    const incomplete = await directory({})
    await mkdir(join(incomplete, '1_empty'))
    await invalid(incomplete, /1_empty.migration\.sql/)
  })

  test('ignores rows without a file, so that an older version can start', () => {
    const row = { checksum: '', finished_at: new Date(), rolled_back_at: null, migration_name: '9_newer' }
    assert.deepEqual(pending([{ name: '1_a', script: 'x' }], [row]), [{ name: '1_a', script: 'x' }])
  })

  test('fleet migrate works on the command line', async () => {
    const url = await newDatabase(server)
    const run = async (address: string | undefined, ...args: string[]) => {
      const child = fleetMigrate(address, ...args)
      const { code } = await child.exit
      return { code, said: child.stdout + child.stderr }
    }
    assert.match((await run(url)).said, /applied \d+_init\nup to date/)
    assert.match((await run(url)).said, /up to date, \d applied before/)
    const [unset, away, timeout, what, none] = await Promise.all([
      run(undefined),
      run(url.replace(/:\d+\//, ':1/')),
      run(url, '--lock-timeout', 'x'),
      run(url, 'what'),
      run(url, '--rolled-back', 'none'),
    ])
    assert.equal(unset.code, 2)
    assert.match(unset.said, /FLEET_ERR_USAGE.*DATABASE_URL/)
    assert.equal(away.code, 1)
    assert.match(away.said, /FLEET_ERR_DATABASE_UNAVAILABLE/)
    assert.doesNotMatch(away.said, new RegExp(server.password))
    assert.equal(timeout.code, 2)
    assert.equal(what.code, 2)
    assert.match(none.said, /FLEET_ERR_MIGRATION_INVALID/)
  })
})
