import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { hostname } from 'node:os'
import type { FastifyBaseLogger, FastifyFleet, FastifyInstance, FastifyPluginAsync } from 'fastify'
import { dictionary } from '../base/dictionary.ts'
import { readEnv } from '../base/env.ts'
import { FleetError } from '../base/errors.ts'
import { int, type OptionsOf, poolName, resolveOptions, token, trustProxy } from '../base/options.ts'
import { defaultPool } from '../base/pool-name.ts'
import { requestId } from '../base/request-id.ts'
import { residentMemory } from '../base/resident-memory.ts'
import { warnOfUnreadConfig } from '../base/route-config.ts'
import { appVersion } from './app-version.ts'
import { decorateClients } from './client-key.ts'
import { fleetPlugin, hasOwnRequestIds } from './compat/index.ts'

/** @internal */
export const identityOptions = {
  /** Instances with the same name and Redis form one fleet. */
  name: token.env('FLEET_NAME').default('fleet'),
  /** Unique in the fleet. @default host name, process id and a random suffix */
  id: token.env('INSTANCE_ID'),
  /** Version of the application. @default that of its `package.json`, else 0.0.0 */
  version: token.env('FLEET_VERSION'),
  /** Side of a blue-green deployment. */
  color: token.env('FLEET_COLOR').default('none'),
  /** Pool of the instance: the routes of a load balancer choose between pools. */
  pool: poolName.env('FLEET_POOL').default(defaultPool),
  /** Region of the instance. */
  region: token.env('FLEET_REGION'),
  /** Zone of the instance. */
  zone: token.env('FLEET_ZONE'),
  /** Share of traffic relative to other instances; 0 means none. */
  weight: int(0, 1000).env('FLEET_WEIGHT').default(100),
  /**
   * Proxies that are trusted to name the client (`X-Forwarded-For`) for limits, idempotency keys, sessions and geo, to tell that
   * the client uses TLS (`X-Forwarded-Proto`), and whose `X-Request-Id` is kept: all, none, the number of proxies between client and instance, or a list of addresses, CIDR
   * blocks, `loopback`, `linklocal`, `uniquelocal`.
   *
   * @default Fastify's own `trustProxy` for the client and none for the id
   */
  trustProxy: trustProxy.env('TRUST_PROXY'),
}
export type IdentityOptions = OptionsOf<typeof identityOptions>

export type LifecycleState = 'starting' | 'serving' | 'draining' | 'closed'

/** The constant properties of one process. */
export interface Instance {
  readonly id: string
  readonly host: string
  readonly pid: number
  /** Set once the instance listens. */
  readonly port?: number
  readonly version: string
  readonly color: string
  readonly pool: string
  readonly region?: string
  readonly zone?: string
  readonly weight: number
  /** ISO 8601. */
  readonly startedAt: string
}

/** An instance as seen by the fleet, with the figures of its last heartbeat. */
export interface Peer extends Instance {
  readonly state: LifecycleState
  /** ISO 8601. */
  readonly lastSeen: string
  /** Requests per second over the last 10 s. */
  readonly rps: number
  /** Share of responses with status 5xx over the last 10 s, 0 to 1. */
  readonly errorRate: number
  /** 95th percentile of the response time over the last 10 s, in milliseconds. */
  readonly p95: number
  /** Share of the last interval in which the event loop was busy, 0 to 1. */
  readonly eventLoopUtilization: number
  /** Resident set size in bytes. */
  readonly memory: number
  /** Names of the critical checks that are down (see `fall`). */
  readonly failing: readonly string[]
  /** Names of the other checks that fail: not critical and down, or degraded. */
  readonly degraded: readonly string[]
  /** Names of all checks; those of critical ones end in `!`. */
  readonly checks: readonly string[]
}

export type Command = 'drain' | 'undrain'

declare module 'fastify' {
  /** `app.fleet`. Upper layers add members to this interface and assign them when they are registered. */
  interface FastifyFleet {
    readonly name: string
    readonly instance: Instance
    /** Where the instance keeps its state, and other facts, e.g. `{ sessionStore: 'redis' }`. */
    readonly facts: Readonly<Record<string, unknown>>
    /** Whether every described store is outside this process. */
    readonly stateless: boolean
    /** Adds a fact. Names that end in `Store` determine {@link FastifyFleet.stateless}. */
    describe(fact: string, value: unknown): void
    /** Calls back after each change of {@link FastifyFleet.facts}. */
    onDescribe(listener: () => void): void
    /** Resolved options by plugin, for `/config`, which redacts them. */
    readonly configuration: Readonly<Record<string, unknown>>
    /** Adds a plugin's resolved options to {@link FastifyFleet.configuration}. */
    configure(plugin: string, options: unknown): void
    /** Adds figures to those that this instance reports to its peers. */
    contribute(figures: () => Partial<Peer>): void
    /** This instance as its peers see it. */
    self(): Peer
    /** Every live instance, from memory; only this one until the registry knows others. */
    peers(): readonly Peer[]
    /**
     * {@link FastifyFleet.peers} with current figures of all instances, for display. `peers()` always has the state of each
     * instance, but in a large fleet a heartbeat updates the figures of only a few.
     */
    survey(): Promise<readonly Peer[]>
    /** Reports a change of this instance to the peers now instead of with the next heartbeat. */
    announce(): void
    /** Sends a command to an instance. @throws FLEET_ERR_INSTANCE_UNKNOWN */
    command(instanceId: string, command: Command): Promise<void>
  }

  interface FastifyInstance {
    fleet: FastifyFleet
  }
}

/** The members of `app.fleet` that need no other plugin. */
class Fleet {
  readonly name: string
  readonly instance: Instance
  readonly configuration: Record<string, unknown> = dictionary()
  readonly #facts: Record<string, unknown> = dictionary()
  readonly #figures: (() => Partial<Peer>)[] = []
  readonly #listeners: (() => void)[] = []
  #stateless = true

  constructor(name: string, instance: Instance) {
    this.name = name
    this.instance = instance
  }

  get facts(): Readonly<Record<string, unknown>> {
    return this.#facts
  }

  get stateless(): boolean {
    return this.#stateless
  }

  describe(fact: string, value: unknown): void {
    this.#facts[fact] = value
    this.#stateless = Object.entries(this.#facts).every(
      ([name, where]) => !name.endsWith('Store') || where !== 'memory',
    )
    for (const listener of this.#listeners) listener()
  }

  onDescribe(listener: () => void): void {
    this.#listeners.push(listener)
  }

  configure(plugin: string, options: unknown): void {
    this.configuration[plugin] = options
  }

  contribute(figures: () => Partial<Peer>): void {
    this.#figures.push(figures)
  }

  self(): Peer {
    const noChecks = { failing: [], degraded: [], checks: [] }
    const noLoad = { state: 'serving' as LifecycleState, rps: 0, errorRate: 0, p95: 0, eventLoopUtilization: 0 }
    const now = { lastSeen: new Date().toISOString(), memory: residentMemory() }
    return Object.assign(
      { ...this.instance, ...noLoad, ...noChecks, ...now },
      ...this.#figures.map((figures) => figures()),
    )
  }

  peers(): readonly Peer[] {
    return [this.self()]
  }

  async survey(): Promise<readonly Peer[]> {
    return this.peers()
  }

  announce(): void {
    // There are no peers without the registry.
  }

  async command(instanceId: string, _command: Command): Promise<void> {
    throw new FleetError('FLEET_ERR_INSTANCE_UNKNOWN', `no instance ${JSON.stringify(instanceId)} in this fleet`)
  }
}

/** Uses the `X-Request-Id` of a trusted proxy if it is safe to log and forward, else creates an id. */
function requestIds(trusted: (address: string | undefined) => boolean): (raw: IncomingMessage) => string {
  return (raw) => {
    const given = raw.headers['x-request-id']
    const usable = typeof given === 'string' && /^[\w.:@+/=-]{1,128}$/.test(given) && trusted(raw.socket?.remoteAddress)
    return usable ? given : requestId()
  }
}

/** Sets the level of the app's logger, which may be any object with pino's methods for lines. */
function setLogLevel(log: FastifyBaseLogger, level: string): void {
  const { levels } = log as { levels?: { values?: object } }
  if (level === 'silent' || Object.hasOwn(levels?.values ?? {}, level)) log.level = level
  else log.warn(`LOG_LEVEL=${level} is not a level of this app’s logger, which keeps its own level`)
}

const plugin: FastifyPluginAsync<IdentityOptions> = async (app, given) => {
  const resolved = resolveOptions('identity', identityOptions, given)
  const options = { ...resolved, version: resolved.version ?? appVersion() ?? '0.0.0' }
  const { LOG_LEVEL } = readEnv()
  if (LOG_LEVEL !== undefined) setLogLevel(app.log, LOG_LEVEL)
  const { name, trustProxy, id, ...rest } = options
  const host = hostname()
  const instance = {
    ...rest,
    id: id ?? `${host}-${process.pid}-${randomBytes(3).toString('hex')}`,
    host,
    pid: process.pid,
    port: undefined as number | undefined,
    startedAt: new Date().toISOString(),
  }
  app.decorate('fleet', new Fleet(name, instance) as unknown as FastifyFleet)
  app.fleet.configure('identity', options)
  const clients = decorateClients(app, trustProxy)
  if (!hasOwnRequestIds(app)) app.setGenReqId(requestIds((peer) => clients.trusts(peer)))
  warnOfUnreadConfig(app)
  app.addHook('onListen', async function listening(this: FastifyInstance) {
    const address = this.server.address()
    if (typeof address === 'object' && address !== null) instance.port = address.port
  })
}

/** Decorates `app.fleet` with the identity of this instance and its fleet. */
export const identity: FastifyPluginAsync<IdentityOptions> = fleetPlugin('identity', plugin)
export default identity
