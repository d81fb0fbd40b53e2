import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FleetEnv } from '../../base/env.ts'
import { linkLifetimeMs, Tickets } from '../../instance/operators/tickets.ts'
import { Reporter } from '../reporter.ts'
import type { DataFolder } from './data.ts'
import {
  checkExcluded,
  type Dependency,
  type DependencyOptions,
  missingPrograms,
  providePostgres,
  provideRedis,
  type ServerName,
} from './dependencies.ts'
import { ExtraProcess, type ExtraProgram } from './extra-process.ts'
import { findProgram } from './find.ts'
import type { FrontKind } from './front.ts'
import { InstanceGroup } from './group.ts'
import { haproxyFront } from './haproxy.ts'
import { isInstalled, type Program, provide } from './install.ts'
import type { LocalInstanceOptions } from './instances.ts'
import type { LogLevel } from './log-view.ts'
import { type AppNeeds, findNeeds } from './needs.ts'
import { nginxFront, nginxProgram } from './nginx.ts'
import { nodeFront } from './node.ts'
import { freePort } from './port.ts'
import { choosePorts } from './ports.ts'
import { openRunLog, type RunLog } from './run-log.ts'
import { lastLines, type Server } from './server.ts'
import { Tally } from './tally.ts'
import { type Watch, watchFiles } from './watch.ts'

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
  /** Servers to start although the app does not seem to use them. */
  include: ReadonlySet<ServerName>
  /** Servers not to start. */
  exclude: ReadonlySet<ServerName>
  /** Apply the app's migrations to the database of DATABASE_URL; to a database started here they are applied in any case. */
  migrate: boolean
  /** Create the first users of the reference application. */
  seed: boolean
  /** The folder in which servers and secrets are kept. @default none */
  data?: DataFolder
  /** Programs that run beside the instances, in the same environment. @default none */
  programs?: readonly ExtraProgram[]
  /** Files and folders whose changes reload the instances. @default none */
  watch?: readonly string[]
  onEvent(line: string): void
  /** Level of the instances' loggers. @default `info` */
  logLevel?: LogLevel
  onOutput?: LocalInstanceOptions['onOutput']
}

/** Longer than a front takes to notice a drain: HAProxy checks every 500 ms, the built-in balancer every second. */
const defaultDrainDelayMs = 1_500
/** The built-in balancer checks every second, HAProxy twice before an instance serves, and nginx tries it again after two. */
const noticeMarginMs = 1_000
/** Pause before a server restarts, ms; doubled after each failed start. */
const restartPauseMs = 250
const longestPauseMs = 5_000

/** A complete fleet on this machine: servers, instances and a front. `drain` removes everything. */
export class LocalFleet {
  readonly adminToken: string
  readonly tally: Tally = new Tally()
  readonly #options: LocalFleetOptions
  readonly #needs: AppNeeds
  readonly #kind: FrontKind
  readonly #notes: string[] = []
  #redis: Dependency | undefined
  #postgres: Dependency | undefined
  #instances: InstanceGroup | undefined
  #processes: readonly ExtraProcess[] = []
  #watch: Watch | undefined
  #front: Server | undefined
  #log: RunLog | undefined
  #stopping = false

  /** @throws FLEET_ERR_USAGE */
  constructor(options: LocalFleetOptions) {
    checkExcluded(options)
    this.#options = {
      ...options,
      onEvent: (line) => {
        this.#log?.write('fleet', `${line}\n`)
        options.onEvent(line)
      },
    }
    this.#needs = findNeeds(options.file)
    this.#kind = fronts[options.front ?? (findProgram(nginxProgram.names) ? 'nginx' : 'node')]
    this.adminToken = options.env.FLEET_ADMIN_TOKEN ?? secret()
  }

  /** Programs that are not installed and that the fleet needs. */
  async missing(): Promise<Program[]> {
    const missing = await missingPrograms(this.#dependencyOptions(false))
    const { program } = this.#kind
    return program && !isInstalled(program) ? [...missing, program] : missing
  }

  /**
   * Resolves when every instance is ready and the front listens. Call {@link LocalFleet.drain} in any case, also after an
   * error.
   *
   * @param install whether missing programs may be installed
   * @throws FLEET_ERR_PORT_TAKEN, FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED
   */
  async start(install: boolean): Promise<void> {
    const { env, file, data, onEvent, onOutput } = this.#options
    const watch = this.#options.watch ?? []
    const spare = watch.length > 0
    const ports = await choosePorts(env, this.#options.instances + (spare ? 1 : 0))
    this.#log = openRunLog(ports.front, onEvent)
    // Fail early when the front's program is missing, although it starts last.
    if (this.#kind.program) await provide(this.#kind.program, { install, onProgress: onEvent })
    await data?.lock()
    const servers = this.#dependencyOptions(install)
    const starting = [provideRedis(servers), providePostgres(servers)] as const
    // Kept at once, so that `drain` stops one server even if the other fails.
    const noop = (): void => {}
    void starting[0].then((redis) => {
      this.#redis = redis
    }, noop)
    void starting[1].then((postgres) => {
      this.#postgres = postgres
    }, noop)
    const [redis, postgres] = await Promise.all(starting)
    // Without Redis, state is in memory and cannot be shared.
    const instances = redis.shared ? this.#options.instances : 1
    const instancePorts = ports.instances.slice(0, instances + (spare ? 1 : 0))
    const drainDelayMs = env.DRAIN_DELAY ?? defaultDrainDelayMs
    const adminPort = env.FLEET_ADMIN_PORT
    const agentPort = this.#kind.usesAgents ? await freePort(instancePorts.length) : undefined
    const common = {
      env: { ...this.#commonEnv(), ...redis.env, ...postgres.env },
      shutdownTimeoutMs: env.SHUTDOWN_TIMEOUT ?? 30_000,
      onEvent,
      onLog: (label: string, text: string, stream: string) => this.#log?.write(label, text, stream),
      onOutput,
    }
    const reporter = this.#reporter()
    const noticeMs = drainDelayMs + noticeMarginMs
    this.#instances = new InstanceGroup({
      ...common,
      tally: this.tally,
      file,
      ports: instancePorts,
      spare,
      adminPort,
      agentPort,
      noticeMs,
      onKilled: (instance, text) => reporter.add({ kind: 'killed', instance, text }),
    })
    this.#processes = (this.#options.programs ?? []).map(
      (program) => new ExtraProcess(program, { ...common, watched: spare }),
    )
    // Before the start, so that no change is missed.
    if (spare)
      this.#watch = watchFiles(watch, (changed) => this.#reload(changed), {
        except: data?.path,
        onNoise: onEvent,
      })
    onEvent(`starting ${instances} × ${file}`)
    await this.#instances.start()
    if (!this.#stopping) for (const each of this.#processes) each.start()
    onEvent(`starting ${this.#kind.title}`)
    const plan = {
      port: ports.front,
      instances: instancePorts,
      operators: instancePorts.map((port, index) => (adminPort ? adminPort + index : port)),
      agents: agentPort ? instancePorts.map((_, index) => agentPort + index) : [],
      adminToken: this.adminToken,
      drainDelayMs,
    }
    this.#front = await this.#kind.start(plan, { install, onProgress: onEvent })
    this.#notes.push(...(this.#front.notes ?? []))
    void this.#supervise('the front', this.#front)
    for (const { description, server } of [redis, postgres]) if (server) void this.#supervise(description, server)
  }

  /** Addresses and processes of the running fleet. */
  report(): FleetReport {
    const [redis, postgres, front] = [this.#redis, this.#postgres, this.#front]
    const instances = this.#instances?.all ?? []
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
      processes: this.#processes.map(({ name, pid }) => ({ name, pid })),
      adminToken: this.adminToken,
      // The code follows `#`, so logs do not contain it.
      dashboard: `${first.operatorsUrl}/fleet#code=${code}`,
      notes: this.#notes,
    }
  }

  /**
   * Drains the instances while the front still serves, then stops the front, then the servers.
   *
   * @returns whether every instance exited with 0 and no other process had to be killed
   */
  async drain(): Promise<boolean> {
    this.#stopping = true
    this.#watch?.close()
    const clean = await Promise.all([this.#instances?.stop(), ...this.#processes.map((each) => each.stop())])
    await this.#front?.stop()
    await Promise.all([this.#redis?.server?.stop(), this.#postgres?.server?.stop()])
    this.#options.data?.release()
    this.#log?.close()
    return !clean.includes(false)
  }

  /** Any instance records the end of another one. */
  #reporter(): Reporter {
    const dashboards = (): string[] => (this.#instances?.all ?? []).map(({ operatorsUrl }) => `${operatorsUrl}/fleet`)
    return new Reporter({ dashboards, token: this.adminToken })
  }

  #reload(changed: string): void {
    this.#instances?.reload(changed)
    for (const each of this.#processes) each.restart()
  }

  #dependencyOptions(install: boolean): DependencyOptions {
    const needs = this.#needs
    return { ...this.#options, needs, install, onNote: (text) => this.#notes.push(text) }
  }

  /** Variables of all instances; the environment takes precedence. */
  #commonEnv(): Record<string, string | undefined> {
    const { env, data, logLevel = 'info' } = this.#options
    return {
      FLEET_ADMIN_TOKEN: this.adminToken,
      // Fronts check readiness on the port of the app.
      FLEET_PUBLIC_PROBES: '1',
      SESSION_SECRET: env.SESSION_SECRET?.join(',') ?? data?.secret('session') ?? secret(),
      JWT_SECRET: env.JWT_SECRET ?? (env.JWT_KEYS ? undefined : (data?.secret('jwt') ?? secret())),
      TRUST_PROXY: String(env.TRUST_PROXY ?? '127.0.0.1'),
      DRAIN_DELAY: String(env.DRAIN_DELAY ?? defaultDrainDelayMs),
      LOG_LEVEL: env.LOG_LEVEL ?? logLevel,
    }
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
  /** Those of `--with NAME=FILE`; without a pid if it has ended. */
  readonly processes: readonly { readonly name: string; readonly pid?: number }[]
  readonly adminToken: string
  /** A sign-in link, valid once within five minutes. */
  readonly dashboard: string
  /** Missing programs, with the fix, and what else the front opened. */
  readonly notes: readonly string[]
}

const secret = (): string => randomBytes(32).toString('base64url')
