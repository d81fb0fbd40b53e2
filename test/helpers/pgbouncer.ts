import './cleanup.ts'
import { chown, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { type Program, provide } from '../../src/cli/up/install.ts'
import { freePort } from '../../src/cli/up/port.ts'
import { probePort, type Server, startServer } from '../../src/cli/up/server.ts'
import type { PostgresServer } from './postgres.ts'

const program: Program = { title: 'PgBouncer', names: ['pgbouncer'], apt: ['pgbouncer'], brew: 'pgbouncer' }

/** A PgBouncer in transaction mode with few connections to the server, so that clients really share them. */
export async function startPgbouncer(postgres: PostgresServer): Promise<Server & { url: string }> {
  const path = await provide(program)
  const port = await freePort()
  const folder = temporaryFolder('pgbouncer')
  const users = join(folder, 'users.txt')
  const file = join(folder, 'pgbouncer.ini')
  await writeFile(users, `"postgres" "${postgres.password}"\n`)
  await writeFile(
    file,
    `[databases]
postgres = host=127.0.0.1 port=${postgres.port} pool_size=2
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${users}
pool_mode = transaction
`,
  )
  // It refuses to run as root.
  const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : undefined
  if (user) for (const each of [folder, users, file]) await chown(each, user.uid, user.gid)
  const server = await startServer({
    title: 'PgBouncer',
    port,
    folder,
    program: path,
    start: () => launch(path, [file], { user, cwd: folder, stopSignal: 'SIGINT' }),
    isUp: () => probePort(port),
  })
  return Object.assign(server, { url: postgres.url.replace(`:${postgres.port}/`, `:${port}/`) })
}
