import './cleanup.ts'
import { type PostgresOptions, type PostgresServer, startPostgres as start } from '../../src/cli/up/postgres.ts'

export type { PostgresServer }

/** A PostgreSQL of its own for a test file, or a replica of one; it ends with the file at the latest. */
export const startPostgres = (options: PostgresOptions = {}): Promise<PostgresServer> =>
  start({ durable: false, ...options, settings: { shared_buffers: '16MB', ...options.settings } })
