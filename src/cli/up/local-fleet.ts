import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { FleetEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { hostUrls } from '../../base/postgres-url.ts'
import { linkLifetimeMs, Tickets } from '../../instance/operators/tickets.ts'
import { launch } from './child.ts'
import { findProgram } from './find.ts'
import type { FrontKind } from './front.ts'
import { haproxyFront } from './haproxy.ts'
import { provide } from './install.ts'
import { LocalInstance } from './instances.ts'
import { nginxFront, nginxProgram } from './nginx.ts'
import { mainFile, nodeFront } from './node.ts'
import { freePort, isPortFree } from './port.ts'
import { startPostgres } from './postgres.ts'
import { startRedis } from './redis.ts'
import { assertReachable, lastLines, type Server } from './server.ts'

export type FrontName = 'nginx' | 'haproxy' | 'node'
export const fronts: Readonly<Record<FrontName, FrontKind>> = {
  nginx: nginxFront,
  haproxy: haproxyFront,
  node: nodeFront,
}

export interface LocalFleetOptions {
  /** The program that each instance runs. */
  file: string
  /** 1 to 64. */
  instances: number
  /** @default nginx if it is installed, else the built-in balancer */
  front?: FrontName
  env: FleetEnv
  /** Migrate the database of the reference application and create its first users. */
  migrate: boolean
  onEvent(line: string): void
  onOutput?(id: string, text: string): void
}

/** A database or Redis: its description and the variables for instances. */
interface Dependency {
  readonly description: string
  readonly server?: Server
  readonly env: Readonly<Record<string, string>>
}

const defaultPort = 8080
const defaultBasePort = 4001
const migrationsFolder = fileURLToPath(new URL('../../../prisma/migrations', import.meta.url))
/** Longer than a front takes to notice a drain: HAProxy checks every 500 ms, the built-in balancer every second. */
const defaultDrainDelayMs = 1_500
/** Pause before a server restarts, ms; doubled after each failed start. */
const restartPauseMs = 250
const longestPauseMs = 5_000

/** A complete fleet on this machine: servers, instances and a front. `drain` removes everything. */
export class LocalFleet {
  readonly adminToken: string
  readonly #options: LocalFleetOptions
  readonly #kind: FrontKind
  readonly #notes: string[] = []
  #redis: Dependency | undefined
  #postgres: Dependency | undefined
  #instances: readonly LocalInstance[] = []
  #front: Server | undefined
  #stopping = false

  constructor(options: LocalFleetOptions) {
    this.#options = options
    this.#kind = fronts[options.front ?? (findProgram(nginxProgram.names) ? 'nginx' : 'node')]
    this.adminToken = options.env.FLEET_ADMIN_TOKEN ?? secret()
  }

  /**
   * Resolves when every instance is ready and the front listens. Call {@link LocalFleet.drain} in any case, also after an
   * error.
   *
   * @throws FLEET_ERR_PORT_TAKEN, FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED
   */
  async start(): Promise<void> {
    const { env, file, onEvent, onOutput } = this.#options
    const ports = await choosePorts(env, this.#options.instances)
    // Fail early when the front's program is missing, although it starts last.
    if (this.#kind.program) await provide(this.#kind.program, { onProgress: onEvent })
    const [redis, postgres] = await Promise.all([this.#provideRedis(), this.#providePostgres()])
    // Without Redis, state is in memory and cannot be shared.
    const instancePorts = redis.shared ? ports.instances : ports.instances.slice(0, 1)
    onEvent(`starting ${instancePorts.length} × ${file}`)
    const options = {
      file,
      adminPort: env.FLEET_ADMIN_PORT,
      agentPort: this.#kind.usesAgents ? await freePort(instancePorts.length) : undefined,
      env: { ...this.#commonEnv(), ...redis.env, ...postgres.env },
      onEvent,
      onOutput,
    }
    this.#instances = instancePorts.map((port, index) => new LocalInstance(index + 1, port, options))
    await Promise.all(this.#instances.map((instance) => instance.start()))
    onEvent(`starting ${this.#kind.title}`)
    const plan = {
      port: ports.front,
      instances: instancePorts,
      agents: this.#instances.flatMap(({ agentPort }) => agentPort ?? []),
      operators: this.#instances.map(({ operatorsUrl }) => Number(new URL(operatorsUrl).port)),
      adminToken: this.adminToken,
      drainDelayMs: env.DRAIN_DELAY ?? defaultDrainDelayMs,
    }
    this.#front = await this.#kind.start(plan, { onProgress: onEvent })
    this.#notes.push(...(this.#front.notes ?? []))
    void this.#supervise('the front', this.#front)
    for (const { description, server } of [redis, postgres]) if (server) void this.#supervise(description, server)
  }

  /** Addresses and processes of the running fleet. */
  report(): FleetReport {
    const [redis, postgres, instances, front] = [this.#redis, this.#postgres, this.#instances, this.#front]
    const [first] = instances
    if (!redis || !postgres || !first || !front) throw new Error('the fleet has not started')
    const code = new Tickets(this.adminToken).issue('link', linkLifetimeMs)
    return {
      front: { kind: this.#kind.title, url: `http://127.0.0.1:${front.port}`, pid: front.pid },
      instances: instances.map(({ id, url, pid }) => ({ id, url, pid })),
      state: { sessions: redis.description, database: postgres.description },
      servers: [redis, postgres].flatMap(({ server }) =>
        server ? [{ program: server.program, port: server.port, pid: server.pid }] : [],
      ),
      adminToken: this.adminToken,
      // The code follows `#`, so logs do not contain it.
      dashboard: `${first.operatorsUrl}/fleet#code=${code}`,
      notes: this.#notes,
    }
  }

  /**
   * Drains the instances while the front still serves, then stops the front, then the servers.
   *
   * @returns whether every instance exited with 0
   */
  async drain(): Promise<boolean> {
    this.#stopping = true
    const timeoutMs = this.#options.env.SHUTDOWN_TIMEOUT ?? 30_000
    const clean = await Promise.all(this.#instances.map((instance) => instance.stop(timeoutMs)))
    await this.#front?.stop()
    await Promise.all([this.#redis?.server?.stop(), this.#postgres?.server?.stop()])
    return clean.every(Boolean)
  }

  /** Variables of all instances; the environment takes precedence. */
  #commonEnv(): Record<string, string | undefined> {
    const { env } = this.#options
    return {
      FLEET_ADMIN_TOKEN: this.adminToken,
      // Fronts check readiness on the port of the app.
      FLEET_PUBLIC_PROBES: '1',
      SESSION_SECRET: env.SESSION_SECRET?.join(',') ?? secret(),
      JWT_SECRET: env.JWT_SECRET ?? (env.JWT_KEYS ? undefined : secret()),
      TRUST_PROXY: String(env.TRUST_PROXY ?? '127.0.0.1'),
      DRAIN_DELAY: String(env.DRAIN_DELAY ?? defaultDrainDelayMs),
      LOG_LEVEL: env.LOG_LEVEL ?? (this.#options.onOutput ? 'info' : 'warn'),
    }
  }

  async #provideRedis(): Promise<Dependency & { shared: boolean }> {
    const { env, onEvent } = this.#options
    const named = (['REDIS_URL', 'REDIS_SENTINELS', 'REDIS_CLUSTER', 'REDIS_HOST'] as const).find((name) => env[name])
    const provide = async (): Promise<Dependency & { shared: boolean }> => {
      if (named) {
        if (env.REDIS_URL) await assertReachable('REDIS_URL', env.REDIS_URL, 6379)
        return { description: `Redis named by ${named}`, env: {}, shared: true }
      }
      onEvent('starting Redis')
      try {
        const server = await startRedis({ onProgress: onEvent })
        return { description: `Redis on port ${server.port}`, server, env: { REDIS_URL: server.url }, shared: true }
      } catch (error) {
        if (!(error instanceof FleetError) || error.code !== 'FLEET_ERR_PROGRAM_MISSING') throw error
        this.#notes.push(`${error.message}; without it, one instance runs with its state in memory`)
        return { description: 'memory of the only instance', env: {}, shared: false }
      }
    }
    const redis = await provide()
    this.#redis = redis
    return redis
  }

  async #providePostgres(): Promise<Dependency> {
    const { env, onEvent, migrate } = this.#options
    let database: Dependency = { description: 'PostgreSQL named by DATABASE_URL', env: {} }
    if (env.DATABASE_URL) {
      for (const url of hostUrls(env.DATABASE_URL)) await assertReachable('DATABASE_URL', url, 5432)
    } else {
      onEvent('starting PostgreSQL')
      const server = await startPostgres({ onProgress: onEvent })
      database = { description: `PostgreSQL on port ${server.port}`, server, env: { DATABASE_URL: server.url } }
    }
    this.#postgres = database
    if (migrate) await this.#migrate(database.env)
    return database
  }

  async #migrate(env: Readonly<Record<string, string>>): Promise<void> {
    this.#options.onEvent('migrating the database')
    // Users with known passwords are for development only.
    const seed = this.#options.env.production ? [] : ['--seed']
    const args = [...process.execArgv, mainFile, 'migrate', '--dir', migrationsFolder, ...seed]
    const child = launch(process.execPath, args, { env })
    const { code } = await child.exit
    if (code !== 0) throw new FleetError('FLEET_ERR_SERVICE_FAILED', `the database: ${lastLines(child)}`)
  }

  /** Restarts a server when it exits, with the same port and data and an increasing pause. */
  async #supervise(what: string, server: Server): Promise<void> {
    for (let pause = restartPauseMs; !this.#stopping; ) {
      const { code, signal } = await server.child.exit
      if (this.#stopping) return
      this.#options.onEvent(`${what} ended with ${signal ?? code}; it is started again. ${lastLines(server.child)}`)
      await sleep(pause)
      if (this.#stopping) return
      pause = await server.restart().then(
        () => restartPauseMs,
        (error: Error) => {
          this.#options.onEvent(error.message)
          return Math.min(pause * 2, longestPauseMs)
        },
      )
    }
  }
}

export interface FleetReport {
  readonly front: { readonly kind: string; readonly url: string; readonly pid: number }
  readonly instances: readonly { readonly id: string; readonly url: string; readonly pid?: number }[]
  readonly state: { readonly sessions: string; readonly database: string }
  /** Only servers that were started here. */
  readonly servers: readonly { readonly program: string; readonly port: number; readonly pid: number }[]
  readonly adminToken: string
  /** A sign-in link, valid once within five minutes. */
  readonly dashboard: string
  /** Missing programs, with the fix, and what else the front opened. */
  readonly notes: readonly string[]
}

/** @throws FLEET_ERR_PORT_TAKEN */
async function choosePorts(env: FleetEnv, count: number): Promise<{ front: number; instances: number[] }> {
  const base = env.FLEET_BASE_PORT ?? defaultBasePort
  const front = env.FLEET_PORT === 0 ? await freePort() : (env.FLEET_PORT ?? defaultPort)
  const instances = Array.from({ length: count }, (_, index) => base + index)
  const wanted = [
    ...instances.map((port) => ({ port, user: 'an instance', fix: 'FLEET_BASE_PORT=5001' })),
    { port: front, user: 'the front', fix: 'FLEET_PORT=9090' },
  ]
  for (const { port, user, fix } of wanted) {
    if (port <= 65_535 && (await isPortFree(port)) && (user === 'the front' || port !== front)) continue
    const detail = `${port}, which ${user} needs; stop the program that uses it, or choose another port, e.g. ${fix} npm start`
    throw new FleetError('FLEET_ERR_PORT_TAKEN', detail)
  }
  return { front, instances }
}

const secret = (): string => randomBytes(32).toString('base64url')
