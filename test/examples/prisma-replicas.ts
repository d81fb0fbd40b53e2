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
let databases: Promise<Databases>
let prepared: Promise<void> | undefined

async function startDatabases(): Promise<Databases> {
  const primary = await startPostgres()
  return { primary, replica: await startPostgres({ replicaOf: primary }) }
}

/** Runs a command of the README in the folder of the example. */
async function run(program: string, args: readonly string[], folder: string, env: Env): Promise<void> {
  const child = forkApp(program, { args, cwd: folder, env })
  assert.equal((await child.exit).code, 0, child.stderr)
}

async function prepare(folder: string): Promise<void> {
  // Generating needs no engine. Without a path to one, Prisma would download it.
  const env = {
    PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
    CHECKPOINT_DISABLE: '1',
    PRISMA_HIDE_UPDATE_MESSAGE: '1',
  }
  const fleet = join(folder, '../node_modules/.bin/fleet')
  await Promise.all([
    run(prisma, ['generate'], folder, env),
    run(fleet, ['migrate'], folder, { DATABASE_URL: (await databases).primary.url }),
  ])
}

export const prismaReplicas: Example = {
  before: () => {
    databases = startDatabases()
    return databases
  },

  env: async (folder) => {
    prepared ??= prepare(folder)
    await prepared
    const { primary, replica } = await databases
    return { DATABASE_URL: primary.url, DATABASE_REPLICA_URLS: replica.url }
  },

  check: async (a, b) => {
    const { replica } = await databases
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
