import { randomBytes } from 'node:crypto'
import pg from 'pg'
import type { PrismaClient } from '../../src/app/generated/prisma/client.ts'
import type { PostgresServer } from '../helpers/postgres.ts'

export type Row = Record<string, unknown>

export async function query(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

/** Creates an empty database. @returns its URL */
export async function newDatabase(server: PostgresServer): Promise<string> {
  const name = `t${randomBytes(6).toString('hex')}`
  await query(server.url, `CREATE DATABASE ${name}`)
  return server.url.replace(/\/postgres$/, `/${name}`)
}

/** Blocks `atGate()` until the returned function is called. */
export async function closeGate({ url }: PostgresServer): Promise<() => Promise<void>> {
  const keeper = new pg.Client({ connectionString: url })
  await keeper.connect()
  await keeper.query('SELECT pg_advisory_lock(1)')
  return () => keeper.end()
}
// A transaction lock, not a session lock: a pool keeps its sessions, and the next gate would wait for their end.
export const atGate = (prisma: PrismaClient): Promise<unknown> =>
  prisma.$queryRaw`SELECT pg_advisory_xact_lock_shared(1)::text`
