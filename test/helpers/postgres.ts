import './cleanup.ts'
import { type PostgresOptions, type PostgresServer, startPostgres as start } from '../../src/cli/up/postgres.ts'

export type { PostgresServer }

/** Starts a PostgreSQL or a replica for a test file, stopped at the end of the file at the latest. */
export const startPostgres = (options: PostgresOptions = {}): Promise<PostgresServer> =>
  start({ durable: false, ...options, settings: { shared_buffers: '16MB', ...options.settings } })
