import type { FastifyCorsOptions } from '@fastify/cors'
import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance, FastifyPluginAsync, FastifyPluginCallback } from 'fastify'
import { readEnv } from './base/env.ts'
import {
  any,
  bool,
  either,
  type OptionsOf,
  oneOf,
  type Resolved,
  record,
  resolveOptions,
  type Shape,
  shape,
  token,
} from './base/options.ts'
import type { DashboardOptions } from './dashboard/index.ts'
import type { DatabaseOptions } from './database/index.ts'
import type { GeoOptions } from './geo/index.ts'
import type { LoadBalancerOptions } from './instance/admin-api.ts'
import type { AgentCheckOptions } from './instance/agent-check.ts'
import { fleetPlugin, Guest } from './instance/compat/index.ts'
import type { HeadersOptions } from './instance/headers.ts'
import type { HealthOptions } from './instance/health/index.ts'
import type { IdentityOptions } from './instance/identity.ts'
import type { LifecycleOptions } from './instance/lifecycle/index.ts'
import type { MetricsOptions } from './instance/metrics/index.ts'
import { load } from './instance/metrics/load.ts'
import type { OperatorsOptions } from './instance/operators/index.ts'
import type { OverloadOptions } from './instance/overload/index.ts'
import { staticHeaders } from './instance/static-headers.ts'
import {
  agentCheck,
  broadcast,
  cache,
  cors,
  dashboard,
  database,
  errorResponses,
  geo,
  headers,
  health,
  httpCache,
  idempotency,
  identity,
  jwt,
  lifecycle,
  loadBalancer,
  locks,
  metrics,
  operatorLinks,
  operators,
  overload,
  rateLimit,
  redis,
  registry,
  securityHeaders,
  session,
  worker,
} from './plugins.ts'
import type { BroadcastOptions } from './state/broadcast/index.ts'
import type { CacheOptions } from './state/cache/index.ts'
import type { IdempotencyOptions } from './state/idempotency/index.ts'
import type { JwtOptions } from './state/jwt/index.ts'
import type { LocksOptions } from './state/locks/index.ts'
import type { RateLimitOptions } from './state/rate-limit/index.ts'
import type { RedisOptions } from './state/redis/index.ts'
import type { RegistryOptions } from './state/registry/index.ts'
import type { SessionOptions } from './state/session/index.ts'
import type { Secret } from './state/session/signer.ts'

const settings = record(any())
/** Options that the plugin itself validates. */
const own = <T extends object>(): Shape<T> => shape('an object of options', settings.accepts)
const ownOrFalse = <T extends object>(): Shape<T | false> => either(oneOf(false), own<T>())

/** @internal */
export const fleetOptions = {
  /** `core` has only identity, headers, lifecycle, overload, health, metrics and sessions, and loads nothing else. */
  preset: oneOf('core', 'full').default('full'),
  /** Name of the fleet. @default `FLEET_NAME`, else `'fleet'` */
  name: token,
  /** Identity of the instance, and the proxies that it trusts. */
  identity: own<Omit<IdentityOptions, 'name'>>().default({}),
  /** Sheds requests that a saturated process cannot serve in time. */
  overload: ownOrFalse<OverloadOptions>().default({}),
  /** Drain and shutdown. */
  lifecycle: own<LifecycleOptions>().default({}),
  /** Who is an operator, and a listener for operators. */
  operators: own<OperatorsOptions>().default({}),
  /**
   * JSON responses with a code and the request's id, without messages of lower layers, to all errors; false: to none.
   *
   * @default to errors of fleet and its database only
   */
  errorResponses: bool,
  /** Response headers that describe the instance. */
  headers: ownOrFalse<HeadersOptions>().default({}),
  /** Security headers, as in @fastify/helmet; its defaults apply, without the directive `upgrade-insecure-requests`. */
  helmet: ownOrFalse<FastifyHelmetOptions>().default({}),
  /** As in @fastify/cors. Without options, pages of other origins have no access. */
  cors: ownOrFalse<FastifyCorsOptions>().default(false),
  /** Prometheus metrics. */
  metrics: ownOrFalse<MetricsOptions>().default({}),
  /** Health checks and probes. */
  health: own<HealthOptions>().default({}),
  /** Operators' endpoints: state of an instance and its fleet, drain and undrain. */
  loadBalancer: ownOrFalse<LoadBalancerOptions>().default({}),
  /** HAProxy's agent check. */
  agentCheck: ownOrFalse<AgentCheckOptions>().default({}),
  /** Country and region of a request. The default has no trusted edge, no database and one region. */
  geo: ownOrFalse<GeoOptions>().default({}),
  /** The connection to Redis. */
  redis: own<RedisOptions>().default({}),
  /** Messages between instances; `secret` also signs the registry's entries. */
  broadcast: own<BroadcastOptions>().default({}),
  /** The list of live instances. */
  registry: own<RegistryOptions>().default({}),
  /** Locks and leader election. */
  locks: own<LocksOptions>().default({}),
  /** Limits of requests per client. */
  rateLimit: ownOrFalse<RateLimitOptions>().default({}),
  /** Sessions that every instance can read. */
  session: ownOrFalse<SessionOptions>().default({}),
  /** Access and refresh tokens. */
  jwt: ownOrFalse<JwtOptions>().default({}),
  /** Your Prisma client, which is health-checked and closed with the app. */
  database: ownOrFalse<DatabaseOptions>().default(false),
  /** Cache of values and responses. */
  cache: ownOrFalse<CacheOptions>().default({}),
  /** Idempotency keys, for routes that enable them. */
  idempotency: ownOrFalse<IdempotencyOptions>().default({}),
  /** The operators' page. */
  dashboard: ownOrFalse<DashboardOptions>().default({}),
}
/** Options of each plugin under its name; `false` disables a plugin where that is possible. */
export type FleetOptions = OptionsOf<typeof fleetOptions>

type Values = Resolved<typeof fleetOptions>

interface Entry {
  // biome-ignore lint/suspicious/noExplicitAny: each plugin has its own type of options.
  readonly plugin: FastifyPluginAsync<any> | FastifyPluginCallback<any>
  /** The option that configures the plugin, or disables it; internal plugins have none. */
  readonly option?: keyof FleetOptions
  /** Options of the plugin. @default the value of `option` */
  readonly options?: (values: Values, app: FastifyInstance) => object | Promise<object>
  /** Whether an internal plugin is registered. @default always */
  readonly when?: (values: Values) => boolean
  /** Part of `preset: 'core'`. */
  readonly core?: true
}

/** All plugins in the order in which a request meets them; they close in reverse order. */
const plugins: readonly Entry[] = [
  {
    option: 'identity',
    plugin: identity,
    core: true,
    options: ({ identity, name }) => ({ ...identity, ...(name !== undefined && { name }) }),
  },
  // First, because shedding a request must cost less than serving it.
  { option: 'overload', plugin: overload, core: true },
  { option: 'lifecycle', plugin: lifecycle, core: true },
  { option: 'operators', plugin: operators, core: true },
  {
    option: 'errorResponses',
    plugin: errorResponses,
    options: ({ errorResponses }) => ({ onlyFleet: errorResponses !== true }),
  },
  { plugin: staticHeaders, when: ({ headers, helmet }) => headers !== false || helmet !== false, core: true },
  { option: 'headers', plugin: headers, core: true },
  { option: 'helmet', plugin: securityHeaders },
  { option: 'cors', plugin: cors },
  { plugin: load, core: true },
  { option: 'metrics', plugin: metrics, core: true },
  { option: 'health', plugin: health, core: true },
  { option: 'loadBalancer', plugin: loadBalancer },
  { option: 'agentCheck', plugin: agentCheck },
  // Before the state plugins, so that a request for another region is redirected before anything is looked up.
  { option: 'geo', plugin: geo },
  { option: 'redis', plugin: redis, core: true },
  { plugin: operatorLinks },
  {
    option: 'broadcast',
    plugin: broadcast,
    options: async (values, app) => {
      // The session's secret signs messages too, so its errors come first.
      if (values.session) await fleetSecret(app, values.session.secret)
      return { secret: codeSecret(values), ...values.broadcast }
    },
  },
  { option: 'registry', plugin: registry },
  { option: 'locks', plugin: locks },
  { option: 'rateLimit', plugin: rateLimit },
  {
    option: 'session',
    plugin: session,
    core: true,
    options: async ({ session }, app) => ({
      ...session,
      secret: await fleetSecret(app, session ? session.secret : undefined),
    }),
  },
  { option: 'jwt', plugin: jwt },
  { option: 'database', plugin: database },
  { option: 'cache', plugin: cache },
  { plugin: httpCache, when: ({ cache }) => cache !== false },
  { option: 'idempotency', plugin: idempotency },
  { option: 'dashboard', plugin: dashboard },
  { plugin: worker, core: true },
]

async function fleetSecret(app: FastifyInstance, given: Secret | undefined): Promise<Secret> {
  return (await import('./state/session/signer.ts')).fleetSecret(app, given)
}

/** A secret given in code for cookies or tokens signs messages too, unless FLEET_SECRET is set. */
function codeSecret({ session, jwt }: Values): string[] | undefined {
  if (readEnv().FLEET_SECRET) return undefined
  const given = [session ? session.secret : undefined, jwt ? jwt.secret : undefined]
  return given.map((secret): unknown[] => [secret].flat()).find((list): list is string[] => list.every(isSecret))
}
// Other values are rejected by the plugin that they were given to.
const isSecret = (text: unknown): boolean => typeof text === 'string' && Buffer.byteLength(text) >= 32

/** Whether a plugin is part of this app. `core` has the other plugins that are given options. */
function isWanted({ core, option, when }: Entry, values: Values, given: FleetOptions): boolean {
  if (option && values[option] === false) return false
  if (values.preset === 'core' && !core && (option === undefined || given[option] === undefined)) return false
  return when?.(values) ?? true
}

const plugin: FastifyPluginAsync<FleetOptions> = async (app, given) => {
  const guest = Guest.of(app)
  guest.giveFleet(
    { ...given, identity: given.identity ?? given.name },
    (option) => fleetOptions[option as keyof FleetOptions]?.accepts(false) ?? false,
  )
  const wanted = resolveOptions('fleet', fleetOptions, given)
  const adopted = plugins.filter(({ option }) => option && guest.givesWay(option))
  const values: Values = { ...wanted, ...Object.fromEntries(adopted.map(({ option }) => [option, false])) }
  for (const entry of plugins) {
    if (!isWanted(entry, wanted, given)) continue
    const { option, plugin, options } = entry
    const isOff = adopted.includes(entry)
    await app.register(plugin, !isOff && options ? await options(values, app) : ((option && wanted[option]) as object))
  }
}

/**
 * Turns an app into an instance of a fleet.
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_ENV_INVALID, FLEET_ERR_SECRET_WEAK,
 * FLEET_ERR_SECRET_MISSING, FLEET_ERR_MEMORY_IN_PRODUCTION, FLEET_ERR_PLUGIN_CONFLICT while the app boots
 */
export const fleet: FastifyPluginAsync<FleetOptions> = fleetPlugin('fleet', plugin, { name: 'fastify-fleet' })
export default fleet
