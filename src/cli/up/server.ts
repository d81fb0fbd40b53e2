import { FleetError } from '../../base/errors.ts'
import { exchange } from '../exchange.ts'
import { waitUntil } from '../wait-until.ts'
import type { Child } from './child.ts'

/** A private server on 127.0.0.1 with its files in a temporary folder. It never outlives this process. */
export interface Server {
  readonly port: number
  /** Of the current process; changes with {@link Server.restart}. */
  readonly pid: number
  /** Its files; they are removed when this process exits, not by `stop()`. */
  readonly folder: string
  /** Path of the program. */
  readonly program: string
  readonly child: Child
  /** Shown once, when the fleet is ready. */
  readonly notes?: readonly string[]
  /** Sends a signal to the main process, default SIGKILL. If the process exits, its workers are ended too. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** Stops it if it runs, and starts it with the same port and files. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export interface ServerDefinition {
  title: string
  port: number
  folder: string
  program: string
  start(): Child
  /** Whether it accepts requests. */
  isUp(): Promise<boolean>
}

/** Time until a server must be up, ms. */
const startTimeoutMs = 60_000

/** @throws FLEET_ERR_SERVICE_FAILED with the server's last output, when it exits or is not up within 60 s */
export async function startServer(definition: ServerDefinition): Promise<Server> {
  const { port, folder, program } = definition
  let child = await untilUp(definition)
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
      child = await untilUp(definition)
    },
  }
}

async function untilUp({ title, start, isUp }: ServerDefinition): Promise<Child> {
  const child = start()
  let up = false
  const isDecided = async (): Promise<boolean> => {
    up = await isUp()
    return up || child.ended !== undefined
  }
  await waitUntil(isDecided, startTimeoutMs, 10)
  if (up) return child
  const how = child.ended ? `ended with ${child.ended.signal ?? child.ended.code}` : 'does not respond'
  await child.stop(0)
  throw new FleetError('FLEET_ERR_SERVICE_FAILED', `${title} ${how}: ${lastLines(child)}`)
}

/** The last lines of output, for an error message. */
export function lastLines(child: Child, lines: number = 5): string {
  const text = `${child.stdout}${child.stderr}`.trim()
  return text === '' ? 'no output' : text.split('\n').slice(-lines).join('\n')
}

/**
 * Whether a server listens on a port and responds as expected.
 *
 * @param hello sent after connecting; without it, an open port is enough
 * @param expected the beginning of the response
 */
export async function probePort(port: number, hello?: string | Buffer, expected: RegExp = /^/): Promise<boolean> {
  const { text, error } = await exchange({ host: '127.0.0.1', port, timeoutMs: 5_000 }, hello)
  return error === undefined && expected.test(text)
}

/**
 * Checks that the server of a URL accepts connections.
 *
 * @throws FLEET_ERR_SERVICE_FAILED with `source`, the origin of the URL, and the address without the password
 */
export async function assertReachable(source: string, url: string, defaultPort: number): Promise<void> {
  const parsed = URL.parse(url)
  // The instances report a Unix domain socket that nothing listens on.
  if (!parsed?.hostname || /^%2f/i.test(parsed.hostname) || parsed.searchParams.has('host')) return
  const { hostname, port } = parsed
  const address = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || defaultPort), timeoutMs: 3_000 }
  if ((await exchange(address)).error === undefined) return
  const detail = `no server listens at ${hostname}:${address.port} (${source}); start it or unset ${source}`
  throw new FleetError('FLEET_ERR_SERVICE_FAILED', detail)
}
