import assert from 'node:assert/strict'
import { join, relative } from 'node:path'
import { describe, test } from 'node:test'
import type { FleetReport } from '../../../src/cli/up/local-fleet.ts'
import { findNeeds } from '../../../src/cli/up/needs.ts'
import type { App } from '../../helpers/fork-app.ts'
import { startPostgres } from '../../helpers/postgres.ts'
import { fleetUp, listens, project, withHealth } from './apps.ts'

type Files = Readonly<Record<string, string>>

const answer = `${withHealth}app.get('/', async () => ({ redis: !!process.env.REDIS_URL, database: !!process.env.DATABASE_URL }))\n${listens}`
const dependsOn = (name: string): string => JSON.stringify({ type: 'module', dependencies: { [name]: '*' } })
const schema = (provider: string): string => `datasource db {\n  provider = "${provider}"\n}\n`
const migration = {
  'prisma/migrations/migration_lock.toml': 'provider = "postgresql"\n',
  'prisma/migrations/1_init/migration.sql': 'CREATE TABLE thing (id int);',
}
/** Responds with the rows of a table that a migration creates. */
const reads = `${withHealth}
import pg from 'pg'
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL })
app.get('/', async () => (await pool.query('SELECT count(*)::int AS things FROM thing')).rows[0])
app.addHook('onClose', () => pool.end())
${listens}`

async function running(
  files: Readonly<Record<string, string>>,
  args: readonly string[] = [],
  env = {},
): Promise<[App, FleetReport]> {
  const up = await fleetUp(
    project(files),
    ['app.js', '--front', 'node', '-n', '2', '--install', '--json', ...args],
    env,
  )
  const [line] = await up.waitFor(/^\{.*\}\n/m)
  return [up, JSON.parse(line)]
}

async function stop(up: App): Promise<void> {
  await up.kill('SIGTERM')
  assert.equal(up.ended?.code, 0, up.stderr)
}

const servers = ({ servers }: FleetReport): string[] =>
  servers.map(({ program }) => (/postgres$/.test(program) ? 'postgres' : 'redis')).sort()

describe('fleet up starts what the app uses', { concurrency: 2 }, () => {
  for (const [what, files, args, expected] of [
    ['nothing about a database', {}, [], ['redis']],
    ['a package that connects to PostgreSQL', { 'package.json': dependsOn('pg') }, [], ['postgres', 'redis']],
    ['a Prisma schema for PostgreSQL', { 'prisma/schema.prisma': schema('postgresql') }, [], ['postgres', 'redis']],
    [
      'a Prisma schema for another database',
      { 'prisma/schema.prisma': schema('sqlite'), 'package.json': dependsOn('@prisma/client') },
      [],
      ['redis'],
    ],
    ['nothing, and --with postgres', {}, ['--with', 'postgres'], ['postgres', 'redis']],
    ['PostgreSQL, and --without postgres', { 'package.json': dependsOn('pg') }, ['--without', 'postgres'], ['redis']],
    ['nothing, and --without redis', {}, ['--without', 'redis'], []],
  ] as const) {
    test(what, async () => {
      const [up, report] = await running({ 'app.js': answer, ...files }, args)
      assert.deepEqual(servers(report), expected)
      const redis = expected.some((name) => name === 'redis')
      assert.equal(report.instances.length, redis ? 2 : 1)
      const seen = await (await fetch(report.front.url)).json()
      assert.deepEqual(seen, { redis, database: expected.some((name) => name === 'postgres') })
      await stop(up)
    })
  }

  test('applies the migrations of the app to the database that it starts', async () => {
    const [up, report] = await running({ 'app.js': reads, 'package.json': dependsOn('pg'), ...migration })
    assert.match(report.state.database, /PostgreSQL on port \d+, migrated by prisma\/migrations/)
    assert.deepEqual(await (await fetch(report.front.url)).json(), { things: 0 })
    await stop(up)
  })

  test('changes the database of DATABASE_URL only with --migrate', async () => {
    const { url } = await startPostgres()
    const files = { 'app.js': reads, ...migration }
    const [up, report] = await running(files, [], { DATABASE_URL: url })
    assert.match(report.notes.join(), /DATABASE_URL lacks 1 migrations?; `--migrate`/)
    assert.equal((await fetch(report.front.url)).status, 500)
    await stop(up)
    const [again, migrated] = await running(files, ['--migrate'], { DATABASE_URL: url })
    assert.deepEqual(migrated.notes, [])
    assert.deepEqual(await (await fetch(migrated.front.url)).json(), { things: 0 })
    await stop(again)
  })

  for (const [args, env, says] of [
    [['--without', 'mysql'], {}, /--without must be one of redis, postgres, not "mysql"/],
    [
      ['--without', 'redis'],
      { REDIS_URL: 'redis://127.0.0.1:1' },
      /--without redis and REDIS_URL contradict each other/,
    ],
  ] as const) {
    test(`rejects ${args.join(' ')}`, async () => {
      const up = await fleetUp(project({ 'app.js': answer }), ['app.js', ...args], env)
      assert.deepEqual(await up.exit, { code: 2, signal: null })
      assert.match(up.stderr, says)
    })
  }
})

describe('what an app needs', () => {
  const needs = (files: Files, program = 'app.js') => {
    const folder = project({ 'package.json': '{}', ...files })
    const { postgres, migrations } = findNeeds(join(folder, program))
    return {
      postgres: postgres?.replace(relative('', folder), '.'),
      migrations: migrations && relative(folder, migrations),
    }
  }
  const postgres = (files: Files, program?: string) => needs(files, program).postgres
  const lock = 'prisma/migrations/migration_lock.toml'

  test('is PostgreSQL for a schema in any of its places, or a package that connects to it', () => {
    for (const name of ['prisma/schema.prisma', 'schema.prisma', 'prisma/schema/base.prisma'])
      assert.equal(postgres({ [name]: schema('postgresql') }), `./${name} is for PostgreSQL`)
    assert.equal(postgres({ 'schema.prisma': schema('postgres') }), './schema.prisma is for PostgreSQL')
    const both = { 'schema.prisma': schema('postgresql'), 'prisma/schema.prisma': schema('sqlite') }
    assert.equal(postgres(both), './schema.prisma is for PostgreSQL')
    for (const name of ['pg', 'postgres', '@fastify/postgres', '@prisma/adapter-pg', '@prisma/client'])
      assert.equal(postgres({ 'package.json': dependsOn(name) }), `package.json depends on ${name}`)
    for (const provider of ['sqlite', 'mypostgresql', 'postgresqlx'])
      assert.equal(
        postgres({ 'schema.prisma': schema(provider), 'package.json': dependsOn('@prisma/client') }),
        undefined,
      )
    const commented = schema('postgresql').replace('provider', '// provider')
    assert.equal(postgres({ 'schema.prisma': commented }), undefined)
    for (const manifest of ['{', '[]', '{"devDependencies":{"pg":"8"}}', dependsOn('pg-format')])
      assert.equal(postgres({ 'package.json': manifest }), undefined)
    const sqlite = { 'schema.prisma': schema('sqlite'), 'package.json': dependsOn('pg') }
    assert.equal(postgres(sqlite), 'package.json depends on pg')
  })

  test('is looked for in the nearest folder with a package.json', () => {
    assert.equal(
      postgres({ 'package.json': dependsOn('pg'), 'src/bin/app.js': '' }, 'src/bin/app.js'),
      'package.json depends on pg',
    )
    const nested = { 'package.json': dependsOn('pg'), 'api/package.json': '{}', 'api/app.js': '' }
    assert.equal(postgres(nested, 'api/app.js'), undefined)
  })

  test('are the migrations of Prisma for PostgreSQL', () => {
    const files = { 'prisma/migrations/1/migration.sql': '' }
    for (const provider of ['postgresql', undefined])
      assert.equal(
        needs({ ...files, ...(provider && { [lock]: `provider = "${provider}"\n` }) }).migrations,
        'prisma/migrations',
      )
    assert.equal(needs({ ...files, [lock]: '# x\nprovider = "sqlite"\n' }).migrations, undefined)
    assert.equal(needs({ 'prisma/migrations': '' }).migrations, undefined)
    assert.deepEqual(needs({}), { postgres: undefined, migrations: undefined })
  })
})
