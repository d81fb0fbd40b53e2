import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import pg from 'pg'
import { exchange } from '../../../src/cli/exchange.ts'
import { embeddedPostgres } from '../../../src/cli/up/postgres.ts'
import { startPostgres } from '../../helpers/postgres.ts'
import { until } from '../../helpers/until.ts'
import { allArguments, modeOf } from './exposed.ts'

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

test('a private PostgreSQL keeps data and port across kill and restart, and requires its password', async () => {
  const postgres = await startPostgres()
  await query(postgres.url, "CREATE TABLE note (text text); INSERT INTO note VALUES ('kept')")
  const elsewhere = await exchange({ host: '127.0.0.2', port: postgres.port, timeoutMs: 10_000 })
  if (process.platform === 'linux') assert.equal(elsewhere.error, 'ECONNREFUSED', 'it listens on 127.0.0.1 only')
  assert.deepEqual(await query(postgres.url, 'SHOW fsync'), [{ fsync: 'off' }], 'as the tests ask for')
  assert.deepEqual(readdirSync(postgres.folder), ['data'], 'no file with the password')
  await postgres.kill()
  await assert.rejects(query(postgres.url, 'SELECT 1'), { code: 'ECONNREFUSED' })
  await postgres.restart()
  assert.deepEqual(await query(postgres.url, 'SELECT text FROM note'), [{ text: 'kept' }])
  await assert.rejects(query(postgres.url.replace(postgres.password, 'guess'), 'SELECT 1'), { code: '28P01' })
  await postgres.stop()
})

test('a replica follows its primary, also after a restart', async () => {
  const primary = await startPostgres()
  await query(primary.url, 'CREATE TABLE note (text text)')
  const shown: string[] = []
  const look = setInterval(() => shown.push(allArguments()), 5)
  const replica = await startPostgres({ replicaOf: primary }).finally(() => clearInterval(look))
  assert.ok(shown.some((all) => all.includes(primary.folder)))
  assert.ok(shown.every((all) => !all.includes(primary.password)))
  assert.equal(modeOf(primary.folder), 0o700)
  const replicated = async (text: string): Promise<void> => {
    await query(primary.url, `INSERT INTO note VALUES ('${text}')`)
    await until(async () => (await query(replica.url, `SELECT 1 FROM note WHERE text = '${text}'`)).length === 1)
  }
  await replicated('one')
  await assert.rejects(query(replica.url, 'CREATE TABLE other ()'), { code: '25006' })
  await replica.stop()
  await query(primary.url, "INSERT INTO note VALUES ('meanwhile')")
  await replica.restart()
  await replicated('two')
  assert.equal((await query(replica.url, 'SELECT * FROM note')).length, 3)
})

test('the server from npm does the same, with a replica', async () => {
  const program = await embeddedPostgres()
  const primary = await startPostgres({ program })
  await query(primary.url, "CREATE TABLE note (text text); INSERT INTO note VALUES ('one')")
  const replica = await startPostgres({ replicaOf: primary })
  assert.deepEqual(await query(replica.url, 'SELECT text FROM note'), [{ text: 'one' }])
})

test('rejects an unknown setting with the message of the server', async () => {
  await assert.rejects(startPostgres({ settings: { no_such_setting: '1' } }), {
    code: 'FLEET_ERR_SERVICE_FAILED',
    message: /no_such_setting/,
  })
})
