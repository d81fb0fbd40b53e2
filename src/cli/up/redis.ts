import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { launch, temporaryFolder } from './child.ts'
import { type Program, type ProvideOptions, provide } from './install.ts'
import { freePort } from './port.ts'
import { probePort, type Server, startServer } from './server.ts'

export const redisProgram: Program = {
  title: 'Redis',
  names: ['redis-server', 'valkey-server'],
  apt: ['redis-server'],
  brew: 'redis',
  instead: 'pass `--without redis` to run one instance with its state in memory',
}

export interface RedisOptions extends ProvideOptions {
  /** Write to an append-only file, which survives a restart. @default true */
  appendonly?: boolean
  /** Additional arguments, which take precedence. Every user of the machine can read them. */
  args?: readonly string[]
  /** Password for clients; `null`: none. @default generated for each server */
  password?: string | null
  /** Folder for its files, which are kept. @default a temporary folder */
  data?: string
  /** @default a free port */
  port?: number
}

export interface RedisServer extends Server {
  /** Includes the password. */
  readonly url: string
}

/** @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const { appendonly = true, args = [], data, password = randomBytes(24).toString('base64url') } = options
  const program = await provide(redisProgram, options)
  const port = options.port ?? (await freePort())
  const folder = temporaryFolder('redis')
  // In a file, because every user can read the arguments of a process.
  const config = join(folder, 'redis.conf')
  if (password !== null)
    await writeFile(config, `requirepass ${JSON.stringify(password)}\n`, { mode: 0o600, flag: 'wx' })
  const server = await startServer({
    title: 'Redis',
    port,
    folder,
    program,
    start: () =>
      launch(program, [
        ...(password === null ? [] : [config]),
        ...['--bind', '127.0.0.1', '--port', String(port), '--dir', data ?? folder, '--save', ''],
        // Tells the next run whether it still uses the folder.
        ...(data === undefined ? [] : ['--pidfile', join(data, 'redis.pid')]),
        ...['--appendonly', appendonly ? 'yes' : 'no'],
        ...args,
      ]),
    // An error means that the server is up, except while it loads its file.
    isUp: () => probePort(port, 'PING\r\n', /^(?!-LOADING)/),
  })
  const login = password === null ? '' : `:${encodeURIComponent(password)}@`
  return Object.assign(server, { url: `redis://${login}127.0.0.1:${port}` })
}
