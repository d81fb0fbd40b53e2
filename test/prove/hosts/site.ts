import '../../helpers/cleanup.ts'
import { writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type Child, type LaunchOptions, launch, temporaryFolder } from '../../../src/cli/up/child.ts'
import { haproxyProgram } from '../../../src/cli/up/haproxy.ts'
import { provide } from '../../../src/cli/up/install.ts'
import { redisProgram } from '../../../src/cli/up/redis.ts'
import { render as renderHaproxy } from '../../haproxy/haproxy.ts'
import type { Method } from '../../helpers/traffic.ts'
import { until } from '../../helpers/until.ts'
import { nginx, render as renderNginx } from '../../nginx/front.ts'
import type { Counts } from '../outcome.ts'
import { startDatabase } from './database.ts'
import { Network } from './network.ts'

export const hosts = ['host-1', 'host-2', 'host-3', 'redis', 'postgres', 'front-1', 'front-2'] as const
export type Host = (typeof hosts)[number]
export type InstanceHost = 'host-1' | 'host-2' | 'host-3'
export const instanceHosts = ['host-1', 'host-2', 'host-3'] as const

/** What the clients of one front got. */
export interface Account {
  counts: Counts
  /** Of requests without a response. */
  methods: Method[]
  /** Responses by instance. */
  by: Record<string, number>
}

export interface Reply {
  status: number
  json: Record<string, unknown>
  headers: Record<string, string | string[] | undefined>
}

/** One request over the Unix domain socket of an instance or client. */
export function ask(socketPath: string, method: string, path: string, cookie = '', timeoutMs = 20_000): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { socketPath, method, path, headers: { host: 'fleet', cookie }, agent: false },
      async (response) => {
        const body = await text(response)
        const json = body.startsWith('{') || body.startsWith('[') ? JSON.parse(body) : { body }
        resolve({ status: response.statusCode ?? 0, json, headers: response.headers })
      },
    )
    sent.setTimeout(timeoutMs, () => sent.destroy(new Error(`${method} ${path}: no response`)))
    sent.once('error', reject).end()
  })
}

const secret = 'a secret of several hosts that is long enough for signatures'
/** Longest time without a byte from an instance, in every front. */
export const readTimeoutMs = 4000

/** The place of a front: the host, and the port on that host. */
export const fronts = {
  nginx: { host: 'front-1', port: 8080 },
  balancer: { host: 'front-1', port: 8081 },
  haproxy: { host: 'front-2', port: 8080 },
} as const satisfies Record<string, { host: Host; port: number }>
export type FrontName = keyof typeof fronts
export const frontNames: readonly FrontName[] = ['nginx', 'haproxy', 'balancer']

export interface SiteOptions {
  fronts: readonly FrontName[]
  /** Also PostgreSQL. */
  database: boolean
}

/** Three hosts with two instances each, Redis and PostgreSQL on hosts of their own, and fronts on two more. */
export class Site {
  readonly network: Network<Host> = new Network(hosts)
  readonly folder: string = temporaryFolder('site')
  readonly orders: string = join(this.folder, 'orders')
  readonly leaders: string = join(this.folder, 'leaders')
  readonly fronts: readonly FrontName[]
  readonly haproxySocket: string = join(this.folder, 'haproxy.sock')
  /** Monotonic time of the last death of an instance's host, ns. */
  diedAt = new Map<InstanceHost, bigint>()
  readonly #processes = new Map<Host, Child[]>()
  readonly #env: Record<string, string>

  private constructor(options: SiteOptions) {
    this.fronts = options.fronts
    for (const file of [this.orders, this.leaders]) writeFileSync(file, '')
    this.#env = {
      REDIS_URL: `redis://${this.network.address('redis')}:6379`,
      SESSION_SECRET: secret,
      FLEET_NAME: 'hosts',
      TRUST_PROXY: '10.77.0.0/16',
      ORDERS: this.orders,
      LEADERS: this.leaders,
    }
  }

  static async start(options: SiteOptions): Promise<Site> {
    const site = new Site(options)
    try {
      await site.#start(options)
      return site
    } catch (error) {
      await site.stop()
      throw error
    }
  }

  async #start(options: SiteOptions): Promise<void> {
    await Promise.all([this.#startRedis(), options.database && this.#startPostgres()])
    await Promise.all(instanceHosts.map((host) => this.startInstances(host)))
    await this.#startFronts()
  }

  /** Instances are named host-1-a, host-1-b, … */
  instances(host: InstanceHost): string[] {
    return [`${host}-a`, `${host}-b`]
  }

  socket(instance: string): string {
    return join(this.folder, `${instance}.sock`)
  }

  ask(instance: string, method: string, path: string, cookie?: string): Promise<Reply> {
    return ask(this.socket(instance), method, path, cookie)
  }

  askInstances(host: InstanceHost, path: string): Promise<Reply[]> {
    return Promise.all(this.instances(host).map((instance) => this.ask(instance, 'GET', path)))
  }

  /** One request through a front. */
  askFront(front: FrontName, method: string, path: string, cookie?: string): Promise<Reply> {
    const { host, port } = fronts[front]
    const query = new URLSearchParams({ port: String(port), method, path })
    return ask(this.socket(`client-${host}`), 'GET', `/?${query}`, cookie)
  }

  /** Starts clients at every front. */
  async startClients(clients: number): Promise<void> {
    for (const front of this.fronts) {
      const { host, port } = fronts[front]
      // nginx sends a PUT or DELETE again that got no response, as RFC 9110 permits.
      const query = new URLSearchParams({
        port: String(port),
        clients: String(clients),
        repeats: front === 'nginx' ? 'yes' : 'no',
      })
      await ask(this.socket(`client-${host}`), 'GET', `/start?${query}`)
    }
  }

  /** Waits for responses to further requests at every front. */
  async more(count: number): Promise<void> {
    await Promise.all(
      this.fronts.map((front) => {
        const { host, port } = fronts[front]
        return ask(this.socket(`client-${host}`), 'GET', `/more?port=${port}&count=${count}`, '', 120_000)
      }),
    )
  }

  /**
   * Stops the clients, and asserts that every request got its response and each unsafe one was executed once. Unsafe ones
   * that were in flight during a fault may be lost.
   */
  async stopClients(fault?: { from: number; to: number }): Promise<Record<FrontName, Account>> {
    const time = fault ? `&from=${fault.from}&to=${fault.to}` : '&from=0&to=-1'
    const accounts = this.fronts.map(async (front) => {
      const { host, port } = fronts[front]
      const { status, json } = await ask(this.socket(`client-${host}`), 'GET', `/stop?port=${port}${time}`, '', 60_000)
      if (status !== 200) throw new Error(`clients of ${front}: ${json.body}`)
      return [front, json] as const
    })
    return Object.fromEntries(await Promise.all(accounts)) as unknown as Record<FrontName, Account>
  }

  /** Stops clients that still run, whatever they got. */
  async haltClients(): Promise<void> {
    await this.stopClients().catch(() => {})
  }

  async startInstances(host: InstanceHost): Promise<void> {
    for (const [i, id] of this.instances(host).entries()) {
      const env = { ...this.#env, INSTANCE_ID: id, PORT: String(3000 + i), FLEET_AGENT_PORT: String(4100 + i) }
      this.#node(host, 'instance.ts', { ...env, CONTROL: this.socket(id) })
    }
    for (const id of this.instances(host)) {
      const ended = (): Child | undefined => this.#processes.get(host)?.find((child) => child.ended)
      const ready = async (): Promise<boolean> => (await this.ask(id, 'GET', '/ready')).status === 200
      await until(() => ended() !== undefined || ready(), { what: `${id} to be ready` })
      const lost = ended()
      if (lost) throw new Error(`${host}: ${lost.stdout}${lost.stderr}`)
    }
  }

  /** A host without power: first nothing leaves it any more, not even the end of a connection. */
  async die(host: InstanceHost): Promise<void> {
    this.network.unplug(host)
    this.diedAt.set(host, process.hrtime.bigint())
    const processes = this.#processes.get(host) ?? []
    this.#processes.set(host, [])
    await Promise.all(processes.map((child) => child.kill('SIGKILL')))
  }

  async stop(): Promise<void> {
    this.network.heal()
    await Promise.all([...this.#processes.values()].flat().map((child) => child.stop(2000)))
    this.network.remove()
  }

  #launch(host: Host, program: string, args: readonly string[], options: LaunchOptions = {}): Child {
    const child = launch(...this.network.on(host, program, ...args), options)
    this.#processes.set(host, [...(this.#processes.get(host) ?? []), child])
    return child
  }

  #node(host: Host, file: string, env: Record<string, string>): Child {
    const path = new URL(file, import.meta.url).pathname
    const clean = { NODE_TEST_CONTEXT: undefined, NODE_ENV: undefined, ...env }
    return this.#launch(host, process.execPath, [path], { env: clean, stopSignal: 'SIGKILL' })
  }

  async #startRedis(): Promise<void> {
    const program = await provide(redisProgram)
    const args = ['--bind', '0.0.0.0', '--protected-mode', 'no', '--port', '6379', '--save', '', '--appendonly', 'no']
    const socket = join(this.folder, 'redis.sock')
    const server = this.#launch('redis', program, [...args, '--unixsocket', socket])
    await server.waitFor(/ready to accept connections/i)
  }

  async #startPostgres(): Promise<void> {
    const [url, start] = await startDatabase(this.network.address('postgres'))
    const { program, args, settings } = start
    this.#launch('postgres', program, args, settings)
    this.#env.DATABASE_URL = url
  }

  async #startFronts(): Promise<void> {
    const targets = instanceHosts.flatMap((host) =>
      [0, 1].map((i) => ({ address: `${this.network.address(host)}:${3000 + i}`, agent: 4100 + i })),
    )
    if (this.fronts.includes('nginx')) {
      const folder = await renderNginx({
        FLEET_LISTEN: '0.0.0.0',
        FLEET_HTTP_PORT: fronts.nginx.port,
        FLEET_WORKERS: 2,
        FLEET_RATE: '100000r/s',
        FLEET_READ_TIMEOUT: `${readTimeoutMs}ms`,
        FLEET_TARGETS: targets.map(({ address }) => address).join(' '),
      })
      const args = ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr', '-g', 'daemon off;']
      this.#launch(fronts.nginx.host, await nginx(), args)
    }
    if (this.fronts.includes('haproxy')) {
      const env = {
        LB_STATS_PASSWORD: 'a password for tests',
        LB_SOCKET: this.haproxySocket,
        LB_SLOWSTART: '0',
        LB_RATE: '1000000',
        LB_TIMEOUT: `${readTimeoutMs}ms`,
        LB_HTTP: `0.0.0.0:${fronts.haproxy.port}`,
        LB_SERVERS: targets.map(({ address, agent }) => `${address}:${agent}`).join(' '),
      }
      const rendered = renderHaproxy(join(this.folder, 'haproxy'), env)
      const args = ['-W', '-db', '-f', join(rendered, 'haproxy.cfg')]
      this.#launch(fronts.haproxy.host, await provide(haproxyProgram), args, { env, cwd: '/' })
    }
    if (this.fronts.includes('balancer')) {
      const { host, port } = fronts.balancer
      this.#node(host, 'front.ts', { ...this.#env, PORT: String(port), RESPONSE_TIMEOUT_MS: String(readTimeoutMs) })
    }
    for (const host of new Set(this.fronts.map((front) => fronts[front].host)))
      this.#node(host, 'client.ts', { CONTROL: this.socket(`client-${host}`), ORDERS: this.orders })
    for (const front of this.fronts)
      await until(async () => (await this.askFront(front, 'GET', '/')).status === 200, {
        what: `a response of ${front}`,
      })
  }
}
