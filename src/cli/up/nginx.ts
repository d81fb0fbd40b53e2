import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { childEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { launch, temporaryFolder } from './child.ts'
import type { FrontKind, FrontPlan } from './front.ts'
import { type Program, type ProvideOptions, provide } from './install.ts'
import { lastLines, probePort, type Server, startServer } from './server.ts'

export const nginxProgram: Program = {
  title: 'nginx',
  names: ['nginx'],
  apt: ['nginx', 'libnginx-mod-stream'],
  brew: 'nginx',
  instead: 'pass `--front node` for the built-in load balancer',
}

/** The only renderer of `nginx/`. */
const renderer = fileURLToPath(new URL('../../../scripts/nginx-render', import.meta.url))

export const nginxFront: FrontKind = { title: 'nginx', program: nginxProgram, start }

/** Starts nginx with the shipped files. Variables of nginx/nginx.env apply; the instances and the port are the fleet's. */
async function start(plan: FrontPlan, options?: ProvideOptions): Promise<Server> {
  const program = await provide(nginxProgram, options)
  const folder = temporaryFolder('nginx')
  // Workers run as another user when this one is root.
  if (process.getuid?.() === 0) await chmod(folder, 0o711)
  const rendered = launch('/bin/sh', [renderer, folder], { env: { NGINX: program, ...values(plan) } })
  if ((await rendered.exit).code !== 0)
    throw new FleetError('FLEET_ERR_SERVICE_FAILED', `nginx: ${lastLines(rendered)}`)
  const args = ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr', '-g', 'daemon off;']
  return startServer({
    title: 'nginx',
    port: plan.port,
    folder,
    program,
    start: () => launch(program, args, { cwd: folder }),
    isUp: () => probePort(plan.port),
  })
}

function values({
  port,
  instances,
  operators,
  adminToken,
  drainDelayMs,
}: FrontPlan): Record<string, string | undefined> {
  const env = childEnv()
  const list = (ports: readonly number[]): string => ports.map((each) => `127.0.0.1:${each}`).join(' ')
  return {
    FLEET_LISTEN: env.FLEET_LISTEN ?? '127.0.0.1',
    FLEET_HTTP_PORT: String(port),
    FLEET_TARGETS: list(instances),
    FLEET_SERVERS: undefined,
    // All clients of this machine have one address.
    FLEET_RATE: env.FLEET_RATE ?? '10000r/s',
    FLEET_API_RATE: env.FLEET_API_RATE ?? '10000r/s',
    // Longer than the drain, so that no request is on its way when the listener closes.
    FLEET_FAIL_TIMEOUT: env.FLEET_FAIL_TIMEOUT ?? `${Math.floor(drainDelayMs / 1_000) + 1}s`,
    FLEET_ADMIN_TARGETS: env.FLEET_ADMIN_TARGETS ?? list(operators ?? instances),
    FLEET_ADMIN_SERVERS: undefined,
    FLEET_ADMIN_TOKEN: env.FLEET_ADMIN_TOKEN ?? adminToken,
  }
}
