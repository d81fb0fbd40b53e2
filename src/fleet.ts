import cors, { type FastifyCorsOptions } from '@fastify/cors'
import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance, FastifyPluginAsync, FastifyPluginCallback } from 'fastify'
import fp from 'fastify-plugin'
import { readEnv } from './base/env.ts'
import { addHooksUntraced } from './base/internals/otel.ts'
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
import { type DashboardOptions, dashboard } from './dashboard/index.ts'
import type { DatabaseOptions } from './database/index.ts'
import { type GeoOptions, geo } from './geo/index.ts'
import { worker } from './host/worker.ts'
import { type LoadBalancerOptions, loadBalancer } from './instance/admin-api.ts'
import { type AgentCheckOptions, agentCheck } from './instance/agent-check.ts'
import { errorResponses } from './instance/error-responses.ts'
import { type HeadersOptions, headers } from './instance/headers.ts'
import { type HealthOptions, health } from './instance/health/index.ts'
import { type IdentityOptions, identity } from './instance/identity.ts'
import { type LifecycleOptions, lifecycle } from './instance/lifecycle/index.ts'
import { type MetricsOptions, metrics } from './instance/metrics/index.ts'
import { load } from './instance/metrics/load.ts'
import { type OperatorsOptions, operators } from './instance/operators/index.ts'
import { type OverloadOptions, overload } from './instance/overload/index.ts'
import { securityHeaders, withHelmetDefaults } from './instance/security-headers.ts'
import { staticHeaders } from './instance/static-headers.ts'
import { type BroadcastOptions, broadcast } from './state/broadcast/index.ts'
import { type CacheOptions, cache } from './state/cache/index.ts'
import { httpCache } from './state/http-cache/index.ts'
import { type IdempotencyOptions, idempotency } from './state/idempotency/index.ts'
import { type JwtOptions, jwt } from './state/jwt/index.ts'
import { type LocksOptions, locks } from './state/locks/index.ts'
import { operatorLinks } from './state/operator-links.ts'
import { type RateLimitOptions, rateLimit } from './state/rate-limit/index.ts'
import { type RedisOptions, redis } from './state/redis/index.ts'
import { type RegistryOptions, registry } from './state/registry/index.ts'
import { type SessionOptions, session } from './state/session/index.ts'
import { fleetSecret } from './state/session/signer.ts'

const settings = record(any())
/** Options that the plugin itself validates. */
const own = <T extends object>(): Shape<T> => shape('an object of options', settings.accepts)
const ownOrFalse = <T extends object>(): Shape<T | false> => either(oneOf(false), own<T>())

/** @internal */
export const fleetOptions = {
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
  /** JSON error responses with a code and without stacks. */
  errorResponses: bool.default(true),
  /** Response headers that describe the instance. */
  headers: ownOrFalse<HeadersOptions>().default({}),
  /** Security headers, as in @fastify/helmet; its defaults apply, without the directive `upgrade-insecure-requests`. */
  helmet: ownOrFalse<FastifyHelmetOptions>().default({}),
  /** As in @fastify/cors. The default gives pages of other origins no access. */
  cors: ownOrFalse<FastifyCorsOptions>().default({ origin: false }),
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
}

/** The database plugin needs optional packages, so it is loaded only if it is used. */
const lazyDatabase: Entry['plugin'] = fp(async (app: FastifyInstance, options: DatabaseOptions) => {
  const { database } = await import('./database/index.ts')
  await app.register(database, options)
})

/** All plugins in the order in which a request meets them; they close in reverse order. */
const plugins: readonly Entry[] = [
  {
    option: 'identity',
    plugin: identity,
    options: ({ identity, name }) => ({ ...identity, ...(name !== undefined && { name }) }),
  },
  // First, because shedding a request must cost less than serving it.
  { option: 'overload', plugin: overload },
  { option: 'lifecycle', plugin: lifecycle },
  { option: 'operators', plugin: operators },
  { option: 'errorResponses', plugin: errorResponses, options: () => ({}) },
  { plugin: staticHeaders, when: ({ headers, helmet }) => headers !== false || helmet !== false },
  { option: 'headers', plugin: headers },
  { option: 'helmet', plugin: securityHeaders, options: ({ helmet }) => withHelmetDefaults(helmet || {}) },
  { option: 'cors', plugin: cors },
  { plugin: load },
  { option: 'metrics', plugin: metrics },
  { option: 'health', plugin: health },
  { option: 'loadBalancer', plugin: loadBalancer },
  { option: 'agentCheck', plugin: agentCheck },
  // Before the state plugins, so that a request for another region is redirected before anything is looked up.
  { option: 'geo', plugin: geo },
  { option: 'redis', plugin: redis },
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
    options: async ({ session }, app) => ({
      ...session,
      secret: await fleetSecret(app, session ? session.secret : undefined),
    }),
  },
  { option: 'jwt', plugin: jwt },
  { option: 'database', plugin: lazyDatabase },
  { option: 'cache', plugin: cache },
  { plugin: httpCache, when: ({ cache }) => cache !== false },
  { option: 'idempotency', plugin: idempotency },
  { option: 'dashboard', plugin: dashboard },
  { plugin: worker },
]

/** A secret given in code for cookies or tokens signs messages too, unless FLEET_SECRET is set. */
function codeSecret({ session, jwt }: Values): string[] | undefined {
  if (readEnv().FLEET_SECRET) return undefined
  const given = [session ? session.secret : undefined, jwt ? jwt.secret : undefined]
  return given.map((secret): unknown[] => [secret].flat()).find((list): list is string[] => list.every(isSecret))
}
// Other values are rejected by the plugin that they were given to.
const isSecret = (text: unknown): boolean => typeof text === 'string' && Buffer.byteLength(text) >= 32

const plugin: FastifyPluginAsync<FleetOptions> = async (app, given) => {
  const values = resolveOptions('fleet', fleetOptions, given)
  const traceHooks = addHooksUntraced(app)
  for (const { option, plugin, options, when } of plugins) {
    const value = option ? values[option] : {}
    if (value !== false && (when?.(values) ?? true))
      await app.register(plugin, options ? await options(values, app) : value)
  }
  traceHooks()
}

/**
 * Turns an app into an instance of a fleet.
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_ENV_INVALID, FLEET_ERR_SECRET_WEAK,
 * FLEET_ERR_SECRET_MISSING, FLEET_ERR_MEMORY_IN_PRODUCTION while the app boots
 */
export const fleet: FastifyPluginAsync<FleetOptions> = fp(plugin, { name: 'fastify-fleet', fastify: '5.x' })
export default fleet
