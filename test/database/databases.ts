import { randomBytes } from 'node:crypto'
import pg from 'pg'
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
