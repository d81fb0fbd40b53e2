import rateLimiter, {
  type FastifyRateLimitStore,
  type FastifyRateLimitStoreCtor,
  type RateLimitOptions as RouteOptions,
} from '@fastify/rate-limit'
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest, RouteOptions as Route } from 'fastify'
import fp from 'fastify-plugin'
import { FleetError } from '../../base/errors.ts'
import { networks } from '../../base/networks.ts'
import { bool, either, int, list, oneOf, resolveOptions, type Shapes, text } from '../../base/options.ts'
import { clientAddress, clientKey } from '../../instance/client-key.ts'
import identity from '../../instance/identity.ts'
import { loadOf } from '../http-cache/load.ts'
import { expose } from '../metrics.ts'
import { principal } from '../principal.ts'
import redis from '../redis/index.ts'
import { type Limits, MemoryLimits, RedisLimits, type Standing } from './limits.ts'

/** Who counts: all instances together, or each one its share of the limit. */
export type Scope = 'fleet' | 'instance'

export interface RateLimitOptions {
  /**
   * Requests per client and window over all routes that set no limit of their own; `false`: those have none. There is
   * none by default, because a limit that fits a stranger's app does not exist, and because counting exactly means that
   * every request asks Redis, also the one that needs no state. @default false
   */
  max?: number | false
  /** Length of the window, 1 to 86,400,000 ms. @default 60000 */
  timeWindow?: number
  /**
   * `fleet`: exact, at the price of one command to Redis per request. `instance`: no command, each instance allows the
   * limit divided by the number of live instances, which is the same only when the front spreads a client's requests
   * evenly. Routes may differ by `config.rateLimit.scope`. @default 'fleet'
   */
  scope?: Scope
  /** Clients that are never limited: addresses, CIDR blocks, `loopback`. @default none */
  allow?: string[]
  /** Clients of the same IPv6 network of this many bits are one client, 32 to 128. @default 64 */
  ipv6Subnet?: number
  /** Send `RateLimit-Limit`, `-Remaining` and `-Reset` with every limited response; refusals have them anyway. @default true */
  headers?: boolean
}

const defaults = {
  max: false,
  timeWindow: 60_000,
  scope: 'fleet',
  allow: [] as string[],
  ipv6Subnet: 64,
  headers: true,
} satisfies RateLimitOptions

type Resolved = Readonly<Required<RateLimitOptions>>

const shapes: Shapes = {
  max: either(int(1, Number.MAX_SAFE_INTEGER), oneOf(false)),
  timeWindow: int(1, 86_400_000, 'milliseconds'),
  scope: oneOf('fleet', 'instance'),
  allow: list(text),
  ipv6Subnet: int(32, 128, 'bits'),
  headers: bool,
}

declare module '@fastify/rate-limit' {
  interface RateLimitOptions {
    /** Who counts: all instances together, or each one its share. @default that of the plugin */
    scope?: 'fleet' | 'instance'
  }
}

/** `config.rateLimit` of a route: so many requests per user, or per client without a login. */
export function perUser(max: number, timeWindow = 60_000): RouteOptions {
  return { max, timeWindow, hook: 'preHandler', keyGenerator: byUser }
}

/** A `keyGenerator` for a limit with `hook: 'preHandler'`, when it is known who is logged in. */
export function byUser(request: FastifyRequest): string {
  const user = principal(request)
  return user === undefined ? `ip ${clientOf(request)}` : `user ${user}`
}

const subnetOf = Symbol('fleet.rateLimit.ipv6Subnet')

/** The key of the client, with the option `ipv6Subnet`. */
const clientOf = (request: FastifyRequest): string =>
  clientKey(request, (request.server as { [subnetOf]?: number } | undefined)?.[subnetOf])

/** `config.rateLimit` of routes that take passwords: together, so many requests per client, 10 a minute by default. */
export function authentication(max = 10, timeWindow = 60_000): RouteOptions {
  return { max, timeWindow, groupId: 'authentication' }
}

/** What one route, or all of them, count with. */
interface Counting {
  readonly shared: Limits | null
  readonly local: Limits
  share(max: number): number
  /** Of the names of limits: none, but for a plugin that is registered a second time. */
  readonly prefix: string
  /** Limiters made by `createRateLimit()` and `app.rateLimit()` so far. */
  limiters: number
  /** Who counted. */
  readonly counts: Record<'redis' | 'memory' | 'share', number>
}

/** Options of @fastify/rate-limit that make no sense in a window that slides. */
const refused = { ban: -1, continueExceeding: false, exponentialBackoff: false } as const
type Given = RouteOptions & { routeInfo?: Partial<Pick<Route, 'method' | 'url' | 'constraints'>> }

/** The store of one limit, with the interface that @fastify/rate-limit wants. */
class Store implements FastifyRateLimitStore {
  readonly #counting: Counting
  readonly #name: string
  readonly #scope: Scope

  constructor(counting: Counting, name: string, scope: Scope) {
    this.#counting = counting
    this.#name = name
    this.#scope = scope
  }

  child(given: unknown): Store {
    const { routeInfo, groupId, scope = this.#scope, ...rest } = given as Given
    for (const [option, value] of Object.entries(refused))
      if ((rest as Record<string, unknown>)[option] !== value)
        throw new FleetError('FLEET_ERR_OPTION_INVALID', `\`rateLimit.${option}\` does not go with a sliding window`)
    return new Store(this.#counting, groupId === undefined ? this.#own(routeInfo, rest.max) : `group ${groupId}`, scope)
  }

  /**
   * The name of a limit of its own, the same on every instance: of its route, or of how many limiters were made before
   * it. The latter changes with the app; with its `max` in it two versions seldom count one limit for another.
   */
  #own({ method, url, constraints }: NonNullable<Given['routeInfo']> = {}, max?: unknown): string {
    const { prefix } = this.#counting
    if (url === undefined) return `${prefix}limiter ${++this.#counting.limiters} of ${max}`
    const only = Object.entries(constraints ?? {}).map(([name, value]) => ` ${name}=${value}`)
    return `${prefix}${String(method).replace('HEAD', 'GET')} ${url}${only.join('')}`
  }

  incr(key: string, done: Done, timeWindow: number, max: number): void {
    this.#take(key, done, timeWindow, max, true)
  }

  read(key: string, done: Done, timeWindow: number, max: number): void {
    this.#take(key, done, timeWindow, max, false)
  }

  #take(client: string, done: Done, windowMs: number, max: number, counts: boolean): void {
    const { shared } = this.#counting
    const key = `${this.#name} ${client}`
    const { counts: by } = this.#counting
    const locally = (): void => {
      by.share++
      done(null, this.#locally(key, windowMs, max, counts))
    }
    const answered = (it: Standing): void => {
      by[shared ? 'redis' : 'memory']++
      done(null, answer(it))
    }
    if (!shared) answered(this.#counting.local.take(key, windowMs, max, counts) as Standing)
    else if (this.#scope === 'instance') locally()
    else (shared.take(key, windowMs, max, counts) as Promise<Standing>).then(answered, locally)
  }

  /** This instance's share, told in terms of the whole: what remains is what remains of the share. */
  #locally(key: string, windowMs: number, max: number, counts: boolean): { current: number; ttl: number } {
    const share = this.#counting.share(max)
    const { count, resetMs } = this.#counting.local.take(key, windowMs, share, counts) as Standing
    return { current: max - share + count, ttl: resetMs }
  }
}

type Done = Parameters<FastifyRateLimitStore['incr']>[1]
const answer = ({ count, resetMs }: Standing): { current: number; ttl: number } => ({ current: count, ttl: resetMs })

/** This instance's part of a limit; how many share it is looked up once a second. */
function shares(app: FastifyInstance): (max: number) => number {
  let instances = 1
  let next = 0
  return (max) => {
    const now = performance.now()
    if (now >= next) {
      instances = Math.max(1, app.fleet.peers().length)
      next = now + 1_000
    }
    return Math.min(max, Math.max(1, Math.floor(max / instances)))
  }
}

/** How many times the plugin was registered below one server. */
const registrations = new WeakMap<object, number>()

function prefixOf(server: object): string {
  const number = (registrations.get(server) ?? 0) + 1
  registrations.set(server, number)
  return number === 1 ? '' : `${number} `
}

const plugin: FastifyPluginAsync<RateLimitOptions> = async (app, given) => {
  if (!app.hasDecorator('fleet')) await app.register(identity)
  if (!app.hasDecorator('redis')) await app.register(redis)
  const options = resolveOptions<Resolved>('rateLimit', shapes, defaults, given)
  const { max, timeWindow, scope, allow, ipv6Subnet, headers } = options
  app.fleet.configure('rateLimit', options)
  app.fleet.describe('limitStore', app.redis ? 'redis' : 'memory')

  const counting: Counting = {
    shared: app.redis && new RedisLimits(app.redis, app.redisKey),
    local: new MemoryLimits(),
    share: shares(app),
    prefix: prefixOf(app.server),
    limiters: 0,
    counts: { redis: 0, memory: 0, share: 0 },
  }
  expose(
    app,
    'fleet_rate_limit_answers_total',
    'Requests counted by a limit, by who counted them',
    'by',
    counting.counts,
  )
  app.decorate(subnetOf as unknown as string, ipv6Subnet)
  const allowed = networks(allow, 'rateLimit.allow')
  await app.register(rateLimiter, {
    global: max !== false,
    ...(max !== false && { max }),
    timeWindow,
    keyGenerator: clientOf,
    allowList: (request: FastifyRequest) =>
      (allow.length > 0 && allowed.includes(clientAddress(request))) ||
      // The request that it is made for was counted.
      loadOf(request) !== undefined,
    store: class extends Store {
      constructor() {
        super(counting, `${counting.prefix}all`, scope)
      }
    } as FastifyRateLimitStoreCtor,
    enableDraftSpec: true,
    addHeadersOnExceeding: { 'ratelimit-limit': headers, 'ratelimit-remaining': headers, 'ratelimit-reset': headers },
    errorResponseBuilder: (_, context) =>
      new FleetError('FLEET_ERR_RATE_LIMITED', `at most ${context.max} at a time; try again in ${context.after}`),
  })
}

/**
 * Limits how often a client may ask, by @fastify/rate-limit over a sliding window that all instances count together.
 * Routes say `config: { rateLimit: { max, timeWindow } }`, {@link perUser}, {@link authentication}, or `false`. While Redis
 * is away each instance allows its share: neither everything nor nothing.
 */
export const rateLimit: FastifyPluginAsync<RateLimitOptions> = fp(plugin, { name: 'fleet-rate-limit', fastify: '5.x' })
export default rateLimit
