import { createConnection } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { FleetError } from '../../base/errors.ts'
import type { Child } from './child.ts'

/** A server of ours: private, on 127.0.0.1, its files in a temporary folder. It ends with this process at the latest. */
export interface Server {
  readonly port: number
  /** Of the process that runs now; another one after {@link Server.restart}. */
  readonly pid: number
  /** Its files. They stay after `stop()`, for a restart, and go when this process ends. */
  readonly folder: string
  /** Path of the program. */
  readonly program: string
  readonly child: Child
  /** Sends a signal to the main process, default SIGKILL. Where it ends the process, its workers end too. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** Ends it where it still runs, and starts it again on the same port with the same files. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export interface ServerDefinition {
  title: string
  port: number
  folder: string
  program: string
  start(): Child
  /** Whether it takes requests now. */
  answers(): Promise<boolean>
}

/** How long a server may take until it answers, in milliseconds. */
const patience = 60_000

/** @throws FLEET_ERR_SERVICE_FAILED with what the server wrote last, when it ends or stays silent for 60 s */
export async function startServer(definition: ServerDefinition): Promise<Server> {
  const { port, folder, program } = definition
  let child = await untilAnswers(definition)
  return {
    port,
    folder,
    program,
    get child() {
      return child
    },
    get pid() {
      return child.pid
    },
    kill: async (signal) => {
      await child.kill(signal)
      if (child.ended) await child.stop()
    },
    stop: () => child.stop(),
    restart: async () => {
      await child.stop()
      child = await untilAnswers(definition)
    },
  }
}

async function untilAnswers({ title, start, answers }: ServerDefinition): Promise<Child> {
  const child = start()
  const deadline = performance.now() + patience
  while (!(await answers())) {
    if (child.ended || performance.now() > deadline) {
      const how = child.ended ? `ended with ${child.ended.signal ?? child.ended.code}` : 'does not answer'
      await child.stop(0)
      throw new FleetError('FLEET_ERR_SERVICE_FAILED', `${title} ${how}: ${lastLines(child)}`)
    }
    await sleep(10)
  }
  return child
}

/** The last few lines of output: enough to say what went wrong, short enough for a terminal. */
export function lastLines(child: Child, lines: number = 5): string {
  const text = `${child.stdout}${child.stderr}`.trim()
  return text === '' ? 'it wrote nothing' : text.split('\n').slice(-lines).join('\n')
}

/**
 * Whether something listens on a port, and says what it should.
 *
 * @param hello what to send; without it an open port is enough
 * @param expects whether the first piece of the answer is the right one
 */
export function probePort(
  port: number,
  hello?: string | Buffer,
  expects?: (answer: Buffer) => boolean,
): Promise<boolean> {
  return probe({ port, host: '127.0.0.1', timeout: 5_000 }, hello, expects)
}

/**
 * Whether the server that a URL names can be reached; what it then says is for its clients to judge.
 *
 * @throws FLEET_ERR_SERVICE_FAILED naming `source`, where the URL comes from, and the address without its password
 */
export async function assertReachable(source: string, url: string, defaultPort: number): Promise<void> {
  const { hostname, port } = new URL(url)
  const address = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || defaultPort), timeout: 3_000 }
  if (await probe(address)) return
  const detail = `nothing listens at ${hostname}:${address.port}, which ${source} names; start it, or unset ${source}`
  throw new FleetError('FLEET_ERR_SERVICE_FAILED', detail)
}

function probe(
  address: { host: string; port: number; timeout: number },
  hello?: string | Buffer,
  expects?: (answer: Buffer) => boolean,
): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(address)
    const settle = (up: boolean): void => {
      socket.destroy()
      resolve(up)
    }
    socket.on('connect', () => (hello === undefined ? settle(true) : socket.write(hello)))
    socket.on('data', (data) => settle(expects?.(data) ?? true))
    for (const event of ['error', 'timeout', 'close']) socket.on(event, () => settle(false))
  })
}
