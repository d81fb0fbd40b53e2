import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { childEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { launch, temporaryFolder } from './child.ts'
import type { FrontKind, FrontPlan } from './front.ts'
import { type Program, type ProvideOptions, provide } from './install.ts'
import { freePort } from './port.ts'
import { lastLines, probePort, type Server, startServer } from './server.ts'

export const haproxyProgram: Program = {
  title: 'HAProxy',
  names: ['haproxy'],
  apt: ['haproxy'],
  brew: 'haproxy',
  instead: 'pass `--front node` for the built-in load balancer',
}

/** The only renderer of `haproxy/`. */
const renderer = fileURLToPath(new URL('../../../scripts/haproxy-render', import.meta.url))

export const haproxyFront: FrontKind = { title: 'HAProxy', program: haproxyProgram, usesAgents: true, start }

/** Starts HAProxy with the shipped files. LB_ variables apply; the instances and the port are the fleet's. */
async function start(plan: FrontPlan, options?: ProvideOptions): Promise<Server> {
  const program = await provide(haproxyProgram, options)
  // A short name: the paths of Unix domain sockets are limited to about 100 characters.
  const folder = temporaryFolder('lb')
  const env = await values(plan, folder)
  const rendered = launch('/bin/sh', [renderer, folder], { env })
  if ((await rendered.exit).code !== 0)
    throw new FleetError('FLEET_ERR_SERVICE_FAILED', `HAProxy: ${lastLines(rendered)}`)
  const [config, log] = [join(folder, 'haproxy.cfg'), join(folder, 'access.log')]
  const server = await startServer({
    title: 'HAProxy',
    port: plan.port,
    folder,
    program,
    // In master-worker mode SIGUSR2 reloads it.
    start: () => launch('/bin/sh', ['-c', 'exec "$@" >> "$0"', log, program, '-W', '-db', '-f', config], { env }),
    isUp: () => probePort(plan.port),
  })
  const { LB_STATS, LB_STATS_USER, LB_STATS_PASSWORD, LB_METRICS, LB_SOCKET } = env
  const secret = childEnv().LB_STATS_PASSWORD ? 'LB_STATS_PASSWORD' : LB_STATS_PASSWORD
  return Object.assign(server, {
    notes: [
      `HAProxy runs ${config}, logs to ${log}, runtime API ${LB_SOCKET}`,
      `HAProxy statistics http://${LB_STATS}, user ${LB_STATS_USER}, password ${secret}; metrics http://${LB_METRICS}/metrics`,
    ],
  })
}

/** Variables of this fleet, and those without a default that fits any number of fleets on one machine. */
async function values(
  { port, instances, agents }: FrontPlan,
  folder: string,
): Promise<Record<string, string | undefined>> {
  const env = childEnv()
  const first = await freePort(3)
  const own = (at: number): string => `127.0.0.1:${first + at}`
  return {
    LB_HTTP: `127.0.0.1:${port}`,
    LB_HTTPS: env.LB_HTTPS ?? own(0),
    LB_STATS: env.LB_STATS ?? own(1),
    LB_STATS_USER: env.LB_STATS_USER ?? 'admin',
    LB_STATS_PASSWORD: env.LB_STATS_PASSWORD || randomBytes(12).toString('base64url'),
    LB_METRICS: env.LB_METRICS ?? own(2),
    LB_SOCKET: env.LB_SOCKET ?? join(folder, 'sock'),
    LB_SERVERS: instances.map((each, i) => ['127.0.0.1', each, agents?.[i]].filter(Boolean).join(':')).join(' '),
    LB_SERVICE: undefined,
  }
}
