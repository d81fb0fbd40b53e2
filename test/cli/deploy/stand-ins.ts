import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { startListening } from '../../edge/listening.ts'
import '../../helpers/cleanup.ts'

/** Stands in for an instance: what it reports about itself, and its counters. */
export interface Instance {
  readonly address: string
  readonly url: string
  ready: boolean
  /** Whether it serves `/ready` at all. */
  hasReadiness: boolean
  version: string
  color: string
  /** The counters of `metrics`, for operators with the token `secret`. */
  metrics: { totals?: { requests?: unknown; errors?: unknown }; p95?: unknown }
  /** Number of requests to `/ready` so far. */
  probes: number
  /** Called before each response. */
  onRequest?: (path: string) => void
}

export async function startInstance(given: Partial<Instance> = {}): Promise<Instance> {
  const server = createServer(({ url = '', headers }, response) => {
    instance.onRequest?.(url)
    const send = (status: number, body: object): void => {
      response.writeHead(status, { 'content-type': 'application/json', connection: 'close' }).end(JSON.stringify(body))
    }
    const { ready, version, color } = instance
    if (url === '/ready' && instance.hasReadiness) {
      instance.probes++
      send(ready ? 200 : 503, ready ? { version } : { version, reason: 'draining' })
    } else if (url === '/health') send(200, { color })
    else if (url === '/ready') send(404, { message: 'Route GET:/ready not found' })
    else if (headers.authorization !== 'Bearer secret') send(404, {})
    else if (url === '/api/v1/load-balancer/metrics') send(200, { instance: instance.metrics })
    else send(500, {})
  })
  const address = `127.0.0.1:${await startListening(server)}`
  const metrics = { totals: { requests: 0, errors: 0 }, p95: 5 }
  const instance: Instance = {
    ...{
      address,
      url: `http://${address}`,
      ready: true,
      hasReadiness: true,
      version: '1',
      color: 'blue',
      metrics,
      probes: 0,
    },
    ...given,
  }
  return instance
}

export interface RuntimeApi {
  readonly socket: string
  readonly commands: string[]
}

/** Stands in for HAProxy's runtime API. */
export async function startRuntimeApi(respond: (command: string) => string): Promise<RuntimeApi> {
  const socket = join(temporaryFolder('api'), 'sock')
  const commands: string[] = []
  const server = createTcpServer({ allowHalfOpen: true }, async (connection) => {
    const command = (await text(connection)).trim()
    commands.push(command)
    connection.end(`${respond(command)}\n`)
  })
  await startListening(server, socket)
  return { socket, commands }
}

const columns =
  'be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_agent_state srv_port'

export interface ServerLine {
  readonly name: string
  readonly host?: string
  readonly port?: number
  readonly op?: number
  readonly admin?: number
  readonly weight?: number
  readonly agent?: number
}

/** The response of HAProxy to `show servers state`. */
export const serversState = (...lines: readonly ServerLine[]): string =>
  [
    '1',
    `# ${columns}`,
    ...lines.map(
      ({ name, host = '127.0.0.1', port = 1, op = 2, admin = 0, weight = 100, agent = 0 }) =>
        `3 fleet 1 ${name} ${host} ${op} ${admin} ${weight} 100 ${agent} ${port}`,
    ),
  ].join('\n')

/** A folder with a stand-in for Docker that knows these containers. */
export function standInForDocker(
  t: TestContext,
  states: Record<string, object>,
  env: readonly string[] = ['X=FLEET_VERSION=', 'FLEET_VERSION=2'],
): { command: readonly string[]; service: string } {
  const folder = temporaryFolder('docker')
  const found = Object.entries(states).map(([Id, State]) => ({
    Id,
    Config: { Env: env },
    State,
  }))
  writeFileSync(join(folder, 'inspected'), JSON.stringify(found))
  writeFileSync(join(folder, 'listed'), Object.keys(states).join('\n'))
  const script = `#!/bin/sh\ncase $1 in ps) /bin/cat ${folder}/listed ;; inspect) /bin/cat ${folder}/inspected ;; esac\n`
  writeFileSync(join(folder, 'docker'), script, { mode: 0o755 })
  const before = process.env.PATH
  process.env.PATH = folder
  t.after(() => {
    process.env.PATH = before
  })
  return { command: ['docker'], service: 'app' }
}
