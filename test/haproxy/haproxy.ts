import { execFile, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { chmodSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Child, launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { haproxyProgram } from '../../src/cli/up/haproxy.ts'
import { provide } from '../../src/cli/up/install.ts'
import { probePort, startServer } from '../../src/cli/up/server.ts'
import '../helpers/cleanup.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'

const folder = fileURLToPath(new URL('../../haproxy/', import.meta.url))
const run = promisify(execFile)

type Env = Record<string, string>

/** A release of HAProxy that runs on this machine. */
export interface Release {
  readonly version: string
  /** Runs it with haproxy.cfg and these arguments. Sockets are created below `own`; `rendered` is the folder of a copy there. */
  launch(args: readonly string[], env: Env, own: string, rendered?: string): Child
  /** Ends it with SIGKILL, workers included. */
  kill(child: Child): Promise<void>
}

async function installed(): Promise<Release> {
  const program = await provide(haproxyProgram)
  const { stdout } = await run(program, ['-v'])
  return {
    version: /version (\S+?)-/.exec(stdout)?.[1] ?? 'unknown',
    launch: (args, env, _own, rendered = folder) =>
      launch(program, [...args, '-f', join(rendered, 'haproxy.cfg')], { env, cwd: '/' }),
    kill: (child) => child.stop(0),
  }
}

/** Of the compose file. */
const image = 'haproxy:3.2'
const names = new WeakMap<Child, string>()
const containers = new Set<string>()
// After the file, not after the test that started one: the next may use it as well.
after(() => Promise.all([...containers].map((name) => run('docker', ['rm', '--force', name]).catch(() => {}))))

/** The official image, or a stand-in with its name, if Docker has it already: tests pull no image. */
async function dockerised(): Promise<Release | undefined> {
  try {
    const { stdout } = await run('docker', ['run', '--rm', '--pull', 'never', image, 'haproxy', '-v'])
    const inside = '/usr/local/etc/haproxy'
    return {
      version: /version (\S+?)-/.exec(stdout)?.[1] ?? '3',
      launch(args, env, own, rendered = inside) {
        const name = `fleet-haproxy-${randomUUID()}`
        const variables = Object.entries(env).flatMap(([key, value]) => ['--env', `${key}=${value}`])
        const user = ['--user', `${process.getuid?.()}:${process.getgid?.()}`, '--network', 'host']
        const given = env.LB_TLS_CERT ? ['--volume', `${env.LB_TLS_CERT}:${env.LB_TLS_CERT}:ro`] : []
        const volumes = ['--volume', `${folder}:${inside}:ro`, '--volume', `${own}:${own}`, ...given]
        const command = ['haproxy', ...args, '-f', join(rendered, 'haproxy.cfg')]
        const options = ['--rm', '--name', name, ...user, ...volumes, ...variables]
        const child = launch('docker', ['run', ...options, image, ...command])
        names.set(child, name)
        containers.add(name)
        return child
      },
      async kill(child) {
        await run('docker', ['kill', names.get(child) ?? ''])
        await child.exit
      },
    }
  } catch {
    return undefined
  }
}

const newer = await dockerised()

/** The installed release, and 3.2 if Docker can run it. */
export const releases: readonly Release[] = [await installed(), ...(newer ? [newer] : [])]

/** The reason why 3.2 is missing, for `skip`. */
export const missing: string | undefined = newer
  ? undefined
  : `Docker is not running here, or does not have the image ${image}`

export interface Front {
  readonly url: string
  readonly https: string
  readonly stats: string
  readonly metrics: string
  readonly child: Child
  /** Sends a command to the runtime API. */
  api(command: string): Promise<string>
  /** A server's row in the statistics. */
  server(name: string, backend?: string): Promise<ServerState>
  /** Waits until these servers are in rotation: of the backend `fleet`, or of another as `backend/name`. */
  up(...names: readonly string[]): Promise<void>
  /**
   * From here on these servers are up and keep their weight, whatever checks and agents report on a busy machine. For
   * tests of other features.
   */
  hold(...names: readonly string[]): Promise<void>
  /** The access log so far. */
  readonly log: readonly Record<string, unknown>[]
  /** SIGUSR2: new workers with the same configuration. */
  reload(): Promise<void>
  /** SIGKILL, workers included. */
  kill(): Promise<void>
  restart(): Promise<void>
  stop(): Promise<void>
}

export interface ServerState {
  /** `UP`, `DOWN`, `DRAIN`, `MAINT`; transitions contain a count. */
  status: string
  /** The result of the last check: `L7OK`, `L4CON`, … */
  check: string
  weight: number
  /** Total requests sent to it. */
  requests: number
  /** In-flight requests. */
  current: number
}

const renderer = fileURLToPath(new URL('../../scripts/haproxy-render', import.meta.url))

/** Writes a copy of haproxy/ with the lists of the environment. @returns its folder */
export function render(to: string, env: Env): string {
  const { status, stderr } = spawnSync(renderer, [to], { env: { ...process.env, ...env }, encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  return to
}

/** Runs the shipped haproxy.cfg, or a copy if the environment has lists. */
export async function startFront(release: Release, env: Env): Promise<Front> {
  const own = temporaryFolder('haproxy')
  // In a container it may belong to another user.
  chmodSync(own, 0o711)
  const socket = join(own, 'admin.sock')
  const first = await freePort(4)
  const url = (at: number): string => `http://127.0.0.1:${first + at}`
  const ports = Object.fromEntries(
    ['LB_HTTP', 'LB_HTTPS', 'LB_STATS', 'LB_METRICS'].map((name, i) => [name, `127.0.0.1:${first + i}`]),
  )
  const all = { LB_STATS_PASSWORD: 'a password for tests', LB_SOCKET: socket, LB_SLOWSTART: '0', ...ports, ...env }
  const lists = Object.keys(env).some((name) => /^LB_(SERVERS|POOLS|ROUTES)$/.test(name))
  const rendered = lists ? render(join(own, 'rendered'), env) : undefined
  const server = await startServer({
    title: `HAProxy ${release.version}`,
    port: first,
    folder: own,
    program: 'haproxy',
    start: () => release.launch(['-W', '-db'], all, own, rendered),
    // It listens on one port after the other, on that for HTTPS only with a certificate.
    isUp: async () => (await Promise.all([0, 2, 3].map((at) => probePort(first + at)))).every(Boolean),
  })
  const api = async (command: string): Promise<string> => {
    const connection = connect(socket)
    connection.end(`${command}\n`)
    return (await text(connection)).trim()
  }
  const state = async (name: string, backend = 'fleet'): Promise<ServerState> => {
    const [head = '', ...lines] = (await api('show stat')).replace(/^# /, '').split('\n')
    const names = head.split(',')
    const line = lines.map((text) => text.split(',')).find(([proxy, its]) => proxy === backend && its === name)
    if (!line) throw new Error(`no server ${backend}/${name}`)
    const field = (key: string): string => line[names.indexOf(key)] ?? ''
    return {
      status: field('status'),
      check: field('check_status').replace(/^\* /, ''),
      weight: Number(field('weight')),
      requests: Number(field('stot')),
      current: Number(field('scur')),
    }
  }
  const front: Front = {
    url: url(0),
    https: url(1).replace('http:', 'https:'),
    stats: url(2),
    metrics: url(3),
    get child() {
      return server.child
    },
    api,
    server: state,
    up: async (...servers) => {
      for (const name of servers) {
        const [server = '', backend] = name.split('/').reverse()
        await until(async () => (await state(server, backend)).status === 'UP', { what: `${name} in rotation` })
      }
    },
    hold: async (...servers) => {
      for (const name of servers) {
        for (const what of ['agent', 'health']) await api(`disable ${what} fleet/${name}`)
        await api(`set server fleet/${name} health up`)
      }
    },
    get log() {
      const lines = server.child.stdout.split('\n').filter((line) => line.startsWith('{'))
      return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
    },
    reload: async () => {
      const loaded = (): number => server.child.stderr.match(/Loading success/g)?.length ?? 0
      const before = loaded()
      await server.child.kill('SIGUSR2')
      await until(() => loaded() > before, { what: 'the reload' })
    },
    kill: () => release.kill(server.child),
    restart: () => server.restart(),
    stop: () => server.stop(),
  }
  return front
}
