import { spawnSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { temporaryFolder } from '../src/cli/up/child.ts'
import { haproxyProgram } from '../src/cli/up/haproxy.ts'
import { provide } from '../src/cli/up/install.ts'
import { nginxProgram } from '../src/cli/up/nginx.ts'
import { freePort } from '../src/cli/up/port.ts'
import { probePort } from '../src/cli/up/server.ts'
import type { Machine, Program } from './machine.ts'

/** An instance as a front sees it: its port, and that of its agent. */
export interface Place {
  readonly port: number
  readonly agent: number
}

const at = (path: string): string => new URL(`../${path}`, import.meta.url).pathname

/**
 * nginx with the files of `nginx/`, as `scripts/nginx-render` puts them together. All load comes from one address, which
 * its limits would take for an attack: they are out of the way.
 */
export async function shippedNginx(machine: Machine, places: readonly Place[]): Promise<Program> {
  const port = await freePort()
  const program = await provide(nginxProgram)
  const folder = temporaryFolder('nginx')
  // Workers run as another user when this one is root.
  chmodSync(folder, 0o711)
  const values = {
    NGINX: program,
    FLEET_TARGETS: places.map((place) => `127.0.0.1:${place.port}`).join(' '),
    FLEET_LISTEN: '127.0.0.1',
    FLEET_HTTP_PORT: String(port),
    FLEET_WORKERS: '1',
    // The shipped number is for one worker per core; here all connections are one worker's.
    FLEET_WORKER_CONNECTIONS: '16384',
    FLEET_CONNECTIONS: '60000',
    FLEET_RATE: '1000000r/s',
    FLEET_API_RATE: '1000000r/s',
    FLEET_AUTH_RATE: '1000000r/s',
  }
  const rendered = spawnSync(at('scripts/nginx-render'), [folder], { env: { ...process.env, ...values } })
  if (rendered.status !== 0) throw new Error(`Error: nginx-render: ${rendered.stderr}`)
  const args = ['-p', folder, '-c', `${folder}/nginx.conf`, '-e', 'stderr', '-g', 'daemon off;']
  return listens(machine, port, program, args)
}

/** HAProxy with `haproxy/haproxy.cfg`; what has a default there that would get in the way of a load from one address is set. */
export async function shippedHaproxy(machine: Machine, places: readonly Place[]): Promise<Program> {
  const port = await freePort()
  const program = await provide(haproxyProgram)
  const own = temporaryFolder('haproxy')
  const env: Record<string, string> = {
    LB_HTTP: `127.0.0.1:${port}`,
    LB_STATS: `127.0.0.1:${await freePort()}`,
    LB_METRICS: `127.0.0.1:${await freePort()}`,
    LB_STATS_PASSWORD: 'only for benchmarks',
    LB_SOCKET: `${own}/admin.sock`,
    LB_SLOWSTART: '0',
    LB_MAXCONN: '10100',
    LB_MAXCONN_TOTAL: '20300',
    LB_RATE: '1000000000',
    LB_RATE_TARPIT: '1000000000',
  }
  places.forEach((place, i) => {
    env[`LB_SERVER_${i + 1}`] = `127.0.0.1:${place.port}`
    env[`LB_AGENT_${i + 1}`] = String(place.agent)
  })
  // It demands two descriptors for each connection it may have, which a shell may not have; persistent connections to the
  // instances need a few.
  const lenient = `${own}/lenient.cfg`
  writeFileSync(lenient, 'global\n  no strict-limits\n')
  // As nginx does, it writes its log to a file: to read it would be work for the process that runs the benchmark.
  const args = ['-c', 'exec "$@" > "$0"', `${own}/access.log`, program, '-db', '-f', at('haproxy/haproxy.cfg')]
  return listens(machine, port, '/bin/sh', [...args, '-f', lenient], env)
}

async function listens(
  machine: Machine,
  port: number,
  program: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Program> {
  const child = machine.run(program, args, { env })
  for (let tries = 0; !(await probePort(port)); tries++) {
    if (child.ended || tries > 200) throw new Error(`Error: ${program} does not listen: ${child.stderr.slice(-300)}`)
    await sleep(50)
  }
  return { port, pid: child.pid, child, stop: () => child.stop(3_000) }
}
