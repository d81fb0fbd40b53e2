import { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import { PrismaPg } from '@prisma/adapter-pg'
import { PrismaClient } from '../../src/app/generated/prisma/client.ts'
import { migrate } from '../../src/database/migrate.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'
import { query } from './databases.ts'

export const userId = '00000000-0000-7000-8000-000000000001'

/** A primary with the reference application's tables and some rows, and two replicas that stream from it. */
export interface Cluster {
  readonly primary: PostgresServer
  readonly one: PostgresServer
  readonly two: PostgresServer
}

/** @param settings of the replicas */
export async function startCluster(settings: Readonly<Record<string, string>> = {}): Promise<Cluster> {
  const primary = await startPostgres()
  await migrate({ url: primary.url, directory: fileURLToPath(new URL('../../prisma/migrations', import.meta.url)) })
  await query(
    primary.url,
    `INSERT INTO users (id, email, name, password_hash) VALUES ('${userId}', 'a@example.com', 'A', '-');
     INSERT INTO products (id, sku, name, price_cents, created_by_id)
       VALUES ('00000000-0000-7000-8000-000000000002', 'a', 'a', 1, '${userId}');
     CREATE TABLE notes (id integer);
     CREATE SEQUENCE ids;
     CREATE FUNCTION writes() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('ids') $$;
     CREATE VIEW writing AS SELECT writes() AS id;
     CREATE VIEW emitting AS SELECT pg_logical_emit_message(true, 'outbox', 'order')::text AS at;
     CREATE FUNCTION on_primary(state text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
       IF pg_is_in_recovery() THEN RAISE 'not here' USING ERRCODE = state; END IF;
       RETURN state;
     END $$;
     CREATE FUNCTION fails(state text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
       RAISE 'nowhere' USING ERRCODE = state;
     END $$`,
  )
  const one = await startPostgres({ replicaOf: primary, settings })
  const two = await startPostgres({ replicaOf: primary, settings })
  await Promise.all([caughtUp(primary, one), caughtUp(primary, two)])
  return { primary, one, two }
}

export const pause = (replica: PostgresServer): Promise<unknown> => query(replica.url, 'SELECT pg_wal_replay_pause()')
export const resume = (replica: PostgresServer): Promise<unknown> => query(replica.url, 'SELECT pg_wal_replay_resume()')
export const promote = (replica: PostgresServer): Promise<unknown> => query(replica.url, 'SELECT pg_promote()')

/** Waits until the replica has replayed all writes of the primary. */
export async function caughtUp(primary: PostgresServer, replica: PostgresServer): Promise<void> {
  // Writes a record: right after a log switch the position is beyond what a standby can reach.
  const [row] = await query(primary.url, "SELECT pg_logical_emit_message(true, 'test', 'here')::text AS at")
  await until(async () => {
    const [now] = await query(replica.url, `SELECT pg_last_wal_replay_lsn() >= '${row?.at}' AS yes`)
    return now?.yes === true
  })
}

/** Names of the queried servers, in order; probes are not recorded. */
export const requested: string[] = []

const closers: (() => Promise<unknown>)[] = []
/** Runs at the end of the test file, before its servers stop. */
export const atEnd = (close: () => Promise<unknown>): unknown => closers.push(close)
after(() => Promise.all(closers.map((close) => close())))

/** Records every statement under the client's name. */
export function client(name: string, url: string, max = 3): PrismaClient {
  const made = new PrismaClient({
    adapter: new PrismaPg({ connectionString: url, max, connectionTimeoutMillis: 20_000 }),
    log: [{ emit: 'event', level: 'query' }],
  })
  ;(made as PrismaClient<'query'>).$on('query', (event) => {
    if (event.query !== 'SELECT 1' && !event.query.includes('pg_postmaster_start_time')) requested.push(name)
  })
  atEnd(() => made.$disconnect())
  return made
}

/** Returns the names of the servers queried during `fn`. */
export async function serversOf(operation: () => PromiseLike<unknown>): Promise<string[]> {
  requested.length = 0
  await operation()
  return [...new Set(requested)].sort()
}
