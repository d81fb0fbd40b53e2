import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import pg from 'pg'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { migrate } from '../../src/database/migrate.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { newDatabase, query } from './databases.ts'

let server: PostgresServer
before(async () => {
  server = await startPostgres()
})

/** A database, and a migrations directory from name → script. */
async function project(scripts: Record<string, string>): Promise<{ url: string; directory: string }> {
  const directory = temporaryFolder('migrations')
  for (const [name, script] of Object.entries(scripts)) {
    await mkdir(join(directory, name))
    await writeFile(join(directory, name, 'migration.sql'), script)
  }
  return { url: await newDatabase(server), directory }
}

describe('a migration', () => {
  it('runs with the settings of the server, whatever the lock and earlier scripts set', async () => {
    const seen = (name: string): string =>
      `CREATE TABLE ${name} AS SELECT current_setting('lock_timeout') AS lock, current_setting('work_mem') AS memory`
    const { url, directory } = await project({ '1_a': `${seen('a')}; SET work_mem = '77kB'`, '2_b': seen('b') })
    await migrate({ url, directory })
    const [first] = await query(url, 'SELECT * FROM a')
    assert.equal(first?.lock, '0')
    assert.deepEqual(await query(url, 'SELECT * FROM b'), [first])
  })

  it('that loses its connection has failed, and the process goes on', async () => {
    const { url, directory } = await project({ '1_end': 'SELECT pg_terminate_backend(pg_backend_pid())' })
    await assert.rejects(migrate({ url, directory }), { code: 'FLEET_ERR_MIGRATION_FAILED', message: /1_end: / })
    await assert.rejects(migrate({ url, directory }), { message: /1_end did not complete in an earlier run/ })
  })

  it('names the line of a syntax error', async () => {
    const { url, directory } = await project({ '1_a': '\nSELECT 2;\nSELEC 3;\n' })
    await assert.rejects(migrate({ url, directory }), {
      message: /1_a: .*"SELEC" at line 3 \(SQLSTATE 42601\); correct/,
    })
  })

  it('is not marked as rolled back by a dry run', async () => {
    const { url, directory } = await project({ '1_bad': 'SELECT nonsense' })
    const failed = { code: 'FLEET_ERR_MIGRATION_FAILED' }
    await assert.rejects(migrate({ url, directory }), failed)
    await assert.rejects(migrate({ url, directory, rolledBack: '1_bad', dryRun: true }), failed)
    await assert.rejects(migrate({ url, directory, dryRun: true }), failed)
    await writeFile(join(directory, '1_bad', 'migration.sql'), 'SELECT 1')
    assert.deepEqual(await migrate({ url, directory, rolledBack: '1_bad' }), { applied: ['1_bad'], before: 0 })
  })

  it('is not marked as rolled back while another process migrates', async () => {
    const { url, directory } = await project({ '1_bad': 'SELECT nonsense' })
    await assert.rejects(migrate({ url, directory }), { code: 'FLEET_ERR_MIGRATION_FAILED' })
    const other = new pg.Client({ connectionString: url })
    await other.connect()
    await other.query('SELECT pg_advisory_lock(72707369)')
    const locked = { code: 'FLEET_ERR_MIGRATION_LOCKED' }
    await assert.rejects(migrate({ url, directory, rolledBack: '1_bad', lockTimeoutMs: 10 }), locked)
    assert.deepEqual(await query(url, 'SELECT rolled_back_at FROM _prisma_migrations'), [{ rolled_back_at: null }])
    await other.end()
  })

  it('waits ten seconds for its server, or for connect_timeout', async (t) => {
    const { url, directory } = await project({})
    const waits: unknown[] = []
    t.mock.method(pg.Client.prototype, 'connect', async function (this: { _connectionTimeoutMillis: number }) {
      waits.push(this._connectionTimeoutMillis)
      throw new Error('refused')
    })
    for (const given of [url, `${url}?connect_timeout=3`])
      await assert.rejects(migrate({ url: given, directory }), { code: 'FLEET_ERR_DATABASE_UNAVAILABLE' })
    assert.deepEqual(waits, [10_000, 3_000])
  })

  it('is needed for the table of the history', async () => {
    const { url, directory } = await project({})
    assert.deepEqual(await migrate({ url, directory }), { applied: [], before: 0 })
    assert.deepEqual(await query(url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'"), [])
  })

  it('runs on the server of a list that is no standby, or fails', async (t) => {
    const { url, directory } = await project({ '1_a': 'CREATE TABLE a ()' })
    const list = url.replace(/@([^/]+)\//, '@$1,$1/')
    const standbys = new Set<object>()
    const sent: string[] = []
    let count = 2
    const { query: send } = pg.Client.prototype
    t.mock.method(pg.Client.prototype, 'query', function (this: pg.Client, text: string, ...rest: unknown[]) {
      if (/pg_is_in_recovery/.test(text) && standbys.size < count) {
        standbys.add(this)
        return Promise.resolve({ rows: [{ standby: true }] })
      }
      if (standbys.has(this)) sent.push(text)
      return Reflect.apply(send, this, [text, ...rest])
    })
    await assert.rejects(migrate({ url: list, directory }), {
      code: 'FLEET_ERR_DATABASE_UNAVAILABLE',
      message: /no server of the list accepts writes/,
    })
    assert.equal(standbys.size, 2)
    standbys.clear()
    count = 1
    assert.deepEqual(await migrate({ url: list, directory }), { applied: ['1_a'], before: 0 })
    assert.deepEqual([standbys.size, sent], [1, []])
  })

  it('is not run by a dry run, which creates no schema either', async () => {
    const { url, directory } = await project({ '1_a': 'CREATE TABLE a ()' })
    const there = `${url}?schema=shop`
    const schemas = () => query(url, "SELECT nspname FROM pg_namespace WHERE nspname = 'shop'")
    assert.deepEqual(await migrate({ url: there, directory, dryRun: true }), { applied: ['1_a'], before: 0 })
    assert.deepEqual(await schemas(), [])
    await migrate({ url: there, directory })
    assert.deepEqual(await schemas(), [{ nspname: 'shop' }])
    assert.deepEqual(await migrate({ url: there, directory, dryRun: true }), { applied: [], before: 1 })
  })

  it('of a role without the right to create schemas runs in a schema that exists, and in no other', async () => {
    const { url, directory } = await project({ '1_a': 'CREATE TABLE a ()' })
    const role = `r${randomBytes(6).toString('hex')}`
    const own = new URL(url)
    const password = decodeURIComponent(own.password)
    await query(url, `CREATE ROLE ${role} LOGIN PASSWORD '${password}'; CREATE SCHEMA shop AUTHORIZATION ${role}`)
    own.username = role
    assert.deepEqual(await migrate({ url: `${own}?schema=shop`, directory }), { applied: ['1_a'], before: 0 })
    assert.deepEqual(await migrate({ url: `${own}?schema=shop`, directory }), { applied: [], before: 1 })
    await assert.rejects(migrate({ url: `${own}?schema=other`, directory }), {
      code: 'FLEET_ERR_DATABASE_UNAVAILABLE',
      message: /permission denied/,
    })
  })

  it('leaves no connection open that is of no use, which would keep the process running', async (t) => {
    const { url, directory } = await project({})
    const list = url.replace(/@([^/]+)\//, '@$1,$1/')
    const { query: send } = pg.Client.prototype
    for (const result of [
      () => Promise.resolve({ rows: [{ standby: true }] }),
      () => Promise.reject(new Error('gone')),
    ]) {
      const [asked, ended] = [new Set<pg.Client>(), [] as Promise<unknown>[]]
      const mock = t.mock.method(
        pg.Client.prototype,
        'query',
        function (this: pg.Client, text: string, ...rest: unknown[]) {
          if (!/pg_is_in_recovery/.test(text)) return Reflect.apply(send, this, [text, ...rest])
          asked.add(this)
          ended.push(once(this, 'end'))
          return result()
        },
      )
      await assert.rejects(migrate({ url: list, directory }), { code: 'FLEET_ERR_DATABASE_UNAVAILABLE' })
      assert.equal(asked.size, 2)
      await Promise.all(ended)
      mock.mock.restore()
    }
  })
})
