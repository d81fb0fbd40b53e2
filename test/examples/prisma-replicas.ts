import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { query } from '../database/databases.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'
import type { Env, Example } from './checks.ts'
import { cookieOf, post } from './requests.ts'

/** The command-line interface of Prisma, which is a development dependency of the example as it is one of this project. */
const prisma = join(dirname(createRequire(import.meta.url).resolve('prisma/package.json')), 'build/index.js')

interface Databases {
  readonly primary: PostgresServer
  readonly replica: PostgresServer
}
let databases: Promise<Databases> | undefined

/** Runs a command of the README in the folder of the example. */
async function run(program: string, args: readonly string[], folder: string, env: Env = {}): Promise<void> {
  const child = forkApp(program, { args, cwd: folder, env })
  assert.equal((await child.exit).code, 0, child.stderr)
}

async function start(folder: string): Promise<Databases> {
  // Generating needs no engine. Without a path to one, Prisma would download it.
  const env = {
    PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
    CHECKPOINT_DISABLE: '1',
    PRISMA_HIDE_UPDATE_MESSAGE: '1',
  }
  const generated = run(prisma, ['generate'], folder, env)
  const primary = await startPostgres()
  const replica = await startPostgres({ replicaOf: primary })
  await run(join(folder, '../node_modules/.bin/fleet'), ['migrate'], folder, { DATABASE_URL: primary.url })
  await generated
  return { primary, replica }
}

export const prismaReplicas: Example = {
  env: async (folder) => {
    databases ??= start(folder)
    const { primary, replica } = await databases
    return { DATABASE_URL: primary.url, DATABASE_REPLICA_URLS: replica.url }
  },

  check: async (a, b) => {
    const { replica } = (await databases) as Databases
    const statusOf = async (id: number, headers = {}): Promise<number> =>
      (await fetch(`${b}/notes/${id}`, { headers })).status
    const readsOfReplica = async (): Promise<number> => (await (await fetch(`${b}/reads`)).json()).replicas[0]
    await until(async () => (await fetch(`${b}/notes`)).ok && (await readsOfReplica()) > 0)

    await query(replica.url, 'SELECT pg_wal_replay_pause()')
    const created = await post(`${a}/notes`, { text: 'buy tea' })
    assert.equal(created.status, 201)
    const { id } = await created.json()
    assert.equal(await statusOf(id), 404, 'another client reads from the replica, which has not replayed the write')
    assert.equal(await statusOf(id, { cookie: cookieOf(created) }), 200, 'the client that wrote reads its write')
    await query(replica.url, 'SELECT pg_wal_replay_resume()')
    await until(async () => (await statusOf(id)) === 200)

    const write = { method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{"text":"buy milk"}' }
    assert.equal((await (await fetch(`${b}/notes/${id}`, write)).json()).text, 'buy milk')
    assert.equal((await fetch(`${b}/notes/${id}`, { method: 'DELETE' })).status, 204)
    assert.equal((await fetch(`${b}/notes/${id}`, { method: 'DELETE' })).status, 404)
    assert.equal((await post(`${a}/notes`, {})).status, 400)
    await until(async () => (await (await fetch(`${b}/notes`)).json()).length === 0)
  },
}
