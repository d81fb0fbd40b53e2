import { appendFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { LaunchOptions } from '../../../src/cli/up/child.ts'
import { query } from '../../database/databases.ts'
import { startPostgres } from '../../helpers/postgres.ts'

/**
 * A database with the table of a report that holders of a lock write.
 *
 * @returns its URL at an address, and how to start its server there
 */
export async function startDatabase(
  address: string,
): Promise<[url: string, start: { program: string; args: string[]; settings: LaunchOptions }]> {
  const server = await startPostgres()
  await query(server.url, 'CREATE TABLE report (token bigint, body text); INSERT INTO report VALUES (0, NULL)')
  await server.stop()
  const data = join(server.folder, 'data')
  appendFileSync(join(data, 'pg_hba.conf'), 'host all all 10.77.0.0/16 scram-sha-256\n')
  // As the user of the files: PostgreSQL refuses to run as root.
  const { uid, gid } = statSync(data)
  const settings = ['-c', 'listen_addresses=*', '-c', 'unix_socket_directories=', '-c', 'fsync=off']
  const user = ['--reuid', String(uid), '--regid', String(gid), '--clear-groups']
  return [
    server.url.replace(/127\.0\.0\.1:\d+/, `${address}:5432`),
    {
      program: 'setpriv',
      args: [...user, server.program, '-D', data, '-p', '5432', ...settings],
      settings: { cwd: server.folder, stopSignal: 'SIGINT' },
    },
  ]
}
