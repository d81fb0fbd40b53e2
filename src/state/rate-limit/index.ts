// The rate-limit plugin: @fastify/rate-limit over a LimitStore (store.ts), in memory (memory-store.ts) or in Redis
// (redis-store.ts). RateLimitStore below adapts one to the other and applies `scope` and `onOutage`.
import type {
  FastifyRateLimitStore,
  FastifyRateLimitStoreCtor,
  RateLimitOptions as RouteOptions,
} from '@fastify/rate-limit'
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest, RouteOptions as Route } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { FleetError } from '../../base/errors.ts'
import { networks } from '../../base/networks.ts'
import { bool, either, int, list, type OptionsOf, oneOf, resolveOptions, text } from '../../base/options.ts'
import { noteRouteConfig, readRouteConfig, warnOfEarlierRoutes } from '../../base/route-config.ts'
import { clientAddress } from '../../instance/client-key.ts'
import { asOurs, fleetPlugin, replacedIn } from '../../instance/compat/index.ts'
import identity from '../../instance/identity.ts'
import { expose } from '../../instance/metrics/expose.ts'
import { internalRequest } from '../http-cache/internal-request.ts'
import redis, { redisOf } from '../redis/index.ts'
import { clientOf, subnetOf } from './keys.ts'
import { MemoryLimitStore } from './memory-store.ts'
import { RedisLimitStore } from './redis-store.ts'
import { routeLimit, routeLimitOptions } from './route-options.ts'
import type { LimitState } from './store.ts'

export { authentication, byUser, perUser } from './keys.ts'

/** `fleet`: all instances count together. `instance`: each one enforces its share of the limit. */
export type LimitScope = 'fleet' | 'instance'

/** @internal */
export const rateLimitOptions = {
  /**
   * Requests per client and window over all routes without a limit of their own; `false`: no limit. There is none by
   * default, because no number fits every app, and an exact count costs a Redis command per request, even for requests that
   * need no state.
   */
  max: either(int(1, Number.MAX_SAFE_INTEGER), oneOf(false)).default(false),
  /** Length of the window; the name is that of @fastify/rate-limit. */
  timeWindow: int(1, 86_400_000, 'milliseconds').default(60_000),
  /**
   * `fleet`: exact, one Redis command per request. `instance`: no command; each instance allows the limit divided by the
   * number of live instances, which equals the limit only if the load balancer spreads a client's requests evenly. Routes
   * override it with `config.rateLimit.scope`.
   */
  scope: oneOf('fleet', 'instance').default('fleet'),
  /**
   * While Redis is unavailable: `allow` enforces each instance's share of the limit, as `scope: 'instance'` does; `reject`
   * responds 503.
   */
  onOutage: oneOf('reject', 'allow').default('allow'),
  /** Clients without limits: addresses, CIDR blocks, `loopback`. */
  allow: list(text).default([]),
  /** Prefix length of the IPv6 network that counts as one client, also for `perUser`. */
  ipv6Subnet: int(32, 128, 'bits').default(64),
  /** Send `RateLimit-Limit`, `-Remaining` and `-Reset` with every limited response; a 429 always has them. */
  headers: bool.default(true),
}
export type RateLimitOptions = OptionsOf<typeof rateLimitOptions>

declare module '@fastify/rate-limit' {
  // Of routes, which extend it, and of `createRateLimit()`.
  interface CreateRateLimitOptions {
    /** Limits of one group share a count. */
    groupId?: string
    /** All instances count together, or each one enforces its share. @default the plugin's `scope` */
    scope?: LimitScope
    /** While Redis is unavailable. @default the plugin's `onOutage` */
    onOutage?: 'reject' | 'allow'
  }
}

/** What a route may set differently. */
interface LimitRules {
  readonly scope: LimitScope
  readonly onOutage: 'reject' | 'allow'
}

/** State that all limits of one registration share. */
interface LimitContext {
  readonly shared: RedisLimitStore | null
  readonly local: MemoryLimitStore
  share(max: number): number
  /** Prefix of the names of limits; empty unless the plugin is registered more than once. */
  readonly prefix: string
  /** Limiters created by `createRateLimit()` and `app.rateLimit()` so far. */
  limiters: number
  /** Whether the route that is being added is limited by @fastify/rate-limit of the app. */
  isReplaced(): boolean
  /** Requests by the store that counted them. */
  readonly counts: Record<'redis' | 'memory' | 'share', number>
}

/** Options of @fastify/rate-limit that a sliding window does not support, with their defaults. */
const unsupported = { ban: -1, continueExceeding: false, exponentialBackoff: false }
type Given = RouteOptions & { routeInfo?: Partial<Pick<Route, 'method' | 'url' | 'constraints'>> }

/** The store of one limit, as @fastify/rate-limit expects it. */
class RateLimitStore implements FastifyRateLimitStore {
  readonly #context: LimitContext
  readonly #name: string
  readonly #rules: LimitRules

  constructor(context: LimitContext, name: string, rules: LimitRules) {
    this.#context = context
    this.#name = name
    this.#rules = rules
  }

  child(given: unknown): RateLimitStore {
    const { routeInfo, groupId, scope = this.#rules.scope, onOutage = this.#rules.onOutage, ...rest } = given as Given
    if (this.#context.isReplaced()) return this
    for (const [option, value] of Object.entries(unsupported))
      if ((rest as Record<string, unknown>)[option] !== value)
        throw new FleetError(
          'FLEET_ERR_OPTION_INVALID',
          `\`rateLimit.${option}\` is not supported with a sliding window${routeInfo?.url ? `; route ${routeInfo.method} ${routeInfo.url}` : ''}`,
        )
    const name = groupId === undefined ? this.#nameOf(routeInfo, rest.max) : `group ${groupId}`
    return new RateLimitStore(this.#context, name, { scope, onOutage })
  }

  /**
   * The name of a limit without a group, equal on every instance: its route, or the number of limiters created before it.
   * That number may differ between versions of an app; the `max` in the name makes a collision unlikely.
   */
  #nameOf({ method, url, constraints }: NonNullable<Given['routeInfo']> = {}, max?: unknown): string {
    const { prefix } = this.#context
    if (url === undefined) return `${prefix}limiter ${++this.#context.limiters} of ${max}`
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
    const { shared, local, share, counts: by } = this.#context
    const { scope, onOutage } = this.#rules
    const key = `${this.#name} ${client}`
    const finish = (store: keyof typeof by, { count, resetMs }: LimitState, used = 0): void => {
      by[store]++
      done(null, { current: used + count, ttl: resetMs })
    }
    // `max - part` counts as used already, so that the remaining requests are those of this instance's share.
    const takeShare = (): void => {
      const part = share(max)
      finish('share', local.take(key, windowMs, part, counts), max - part)
    }
    if (!shared) finish('memory', local.take(key, windowMs, max, counts))
    else if (scope === 'instance') takeShare()
    else
      shared.take(key, windowMs, max, counts).then(
        (state) => finish('redis', state),
        (error: Error) => (onOutage === 'reject' ? done(error) : takeShare()),
      )
  }
}

type Done = Parameters<FastifyRateLimitStore['incr']>[1]

/** This instance's share of a limit. The number of instances is read once per second. */
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

/** Registrations of the plugin per server. */
const registrations = new WeakMap<object, number>()

function prefixOf(server: object): string {
  const number = (registrations.get(server) ?? 0) + 1
  registrations.set(server, number)
  return number === 1 ? '' : `${number} `
}

const plugin: FastifyPluginAsync<RateLimitOptions> = async (app, given) => {
  await ensure(app, identity, redis)
  const options = resolveOptions('rateLimit', rateLimitOptions, given)
  const { max, timeWindow, scope, onOutage, allow, ipv6Subnet, headers } = options
  app.fleet.configure('rateLimit', options)
  if (max !== false) warnOfEarlierRoutes(app, 'rateLimit.max')
  const client = redisOf(app)
  app.fleet.describe('limitStore', client ? 'redis' : 'memory')

  const isReplaced = replacedIn(app, '@fastify/rate-limit')
  // The scope of the route that is being added. @fastify/rate-limit does not pass it to its store.
  let routesOf = app
  app.addHook('onRoute', function (route) {
    routesOf = this
    if (isReplaced({ server: this })) noteRouteConfig(route, 'rateLimit')
    else readRouteConfig(route, 'rateLimit', routeLimit)
  })
  const context: LimitContext = {
    shared: client && new RedisLimitStore(client, app.redisKey),
    local: new MemoryLimitStore(),
    share: shares(app),
    prefix: prefixOf(app.server),
    limiters: 0,
    isReplaced: () => isReplaced({ server: routesOf }),
    counts: { redis: 0, memory: 0, share: 0 },
  }
  expose(app, 'fleet_rate_limit_answers_total', 'Requests counted by a limit, by store', 'by', context.counts)
  app.decorate(subnetOf as unknown as string, ipv6Subnet)
  const allowed = networks(allow, 'rateLimit.allow')
  const { default: rateLimiter } = await import('@fastify/rate-limit')
  // Not registered, so that `hasPlugin('@fastify/rate-limit')` is about the app's own.
  const settings: Parameters<typeof rateLimiter>[1] = {
    global: max !== false,
    ...(max !== false && { max }),
    timeWindow,
    keyGenerator: clientOf,
    allowList: (request: FastifyRequest) =>
      isReplaced(request) ||
      (allow.length > 0 && allowed.includes(clientAddress(request))) ||
      // The client's request that caused an internal one was counted already.
      internalRequest(request) !== undefined,
    store: class extends RateLimitStore {
      constructor() {
        super(context, `${context.prefix}all`, { scope, onOutage })
      }
    } as FastifyRateLimitStoreCtor,
    enableDraftSpec: true,
    addHeadersOnExceeding: { 'ratelimit-limit': headers, 'ratelimit-remaining': headers, 'ratelimit-reset': headers },
    errorResponseBuilder: (_, exceeded) =>
      new FleetError(
        'FLEET_ERR_RATE_LIMITED',
        `limit of ${exceeded.max} requests reached; try again in ${exceeded.after}`,
      ),
  }
  await asOurs(app, 'rateLimit', () => rateLimiter(app, settings, () => undefined))
  for (const name of ['createRateLimit', 'rateLimit'] as const) checkLimiters(app, name)
}

/** @fastify/rate-limit ignores options that it does not know, and replaces those that it cannot read. */
function checkLimiters(app: FastifyInstance, name: 'createRateLimit' | 'rateLimit'): void {
  const create = app[name] as (options?: object) => never
  app[name] = (options?: object) => {
    resolveOptions(name, routeLimitOptions, options)
    return create(options)
  }
}

/**
 * Rate limits: @fastify/rate-limit with a sliding window that all instances share. Routes set
 * `config: { rateLimit: { max, timeWindow } }`, {@link perUser}, {@link authentication}, or `false`. While Redis is unavailable
 * each instance enforces its share of the limit, unless `onOutage` is `reject`.
 */
export const rateLimit: FastifyPluginAsync<RateLimitOptions> = fleetPlugin('rateLimit', plugin)
export default rateLimit
