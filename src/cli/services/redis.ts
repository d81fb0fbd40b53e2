import { launch, temporaryFolder } from './child.ts'
import { type Program, type ProvideOptions, provide } from './install.ts'
import { freePort } from './port.ts'
import { probePort, type Server, startServer } from './server.ts'

export const redisProgram: Program = {
  title: 'Redis',
  names: ['redis-server', 'valkey-server'],
  apt: ['redis-server'],
  brew: 'redis',
}

export interface RedisOptions extends ProvideOptions {
  /** Keep every write in an append-only file, so that it survives a restart. @default true */
  appendonly?: boolean
  /** More arguments for the server, e.g. `['--requirepass', '…']`; they win over ours. */
  args?: readonly string[]
  /** @default a free one */
  port?: number
}

export interface RedisServer extends Server {
  readonly url: string
}

/** @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const { appendonly = true, args = [] } = options
  const program = await provide(redisProgram, options)
  const port = options.port ?? (await freePort())
  const folder = temporaryFolder('redis')
  const server = await startServer({
    title: 'Redis',
    port,
    folder,
    program,
    start: () =>
      launch(program, [
        ...['--bind', '127.0.0.1', '--port', String(port), '--dir', folder, '--save', ''],
        ...['--appendonly', appendonly ? 'yes' : 'no'],
        ...args,
      ]),
    // An error is an answer too: a server that asks for a password is up. One that still reads its file is not.
    answers: () => probePort(port, 'PING\r\n', (answer) => !answer.toString().startsWith('-LOADING')),
  })
  return Object.assign(server, { url: `redis://127.0.0.1:${port}` })
}
