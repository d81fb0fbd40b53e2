import cors, { type FastifyCorsOptions } from '@fastify/cors'
import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance, FastifyPluginAsync, FastifyPluginCallback } from 'fastify'
import fp from 'fastify-plugin'
import { readEnv } from './base/env.ts'
import { any, bool, either, oneOf, record, resolveOptions, type Shape, type Shapes, token } from './base/options.ts'
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
import { securityHeaders } from './instance/security-headers.ts'
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

/** Options of each plugin under its name; `false` disables a plugin where that is possible. */
export interface FleetOptions {
  /** Name of the fleet. @default FLEET_NAME, else `fleet` */
  name?: string
  identity?: Omit<IdentityOptions, 'name'>
  lifecycle?: LifecycleOptions
  operators?: OperatorsOptions
  headers?: HeadersOptions | false
  /** Sheds requests that a saturated process cannot serve in time. @default {} */
  overload?: OverloadOptions | false
  health?: HealthOptions
  metrics?: MetricsOptions | false
  loadBalancer?: LoadBalancerOptions | false
  agentCheck?: AgentCheckOptions | false
  /** Country and region of a request. @default {}: no trusted edge, no database, one region */
  geo?: GeoOptions | false
  /** JSON error responses with a code and without stacks. @default true */
  errorResponses?: boolean
  /** Security headers, as in @fastify/helmet. @default its defaults, without upgrade-insecure-requests */
  helmet?: FastifyHelmetOptions | false
  /** As in @fastify/cors. @default { origin: false }: no access for pages of other origins */
  cors?: FastifyCorsOptions | false
  redis?: RedisOptions
  /** Messages between instances; `secret` also signs the registry's entries. @default {} */
  broadcast?: BroadcastOptions
  registry?: RegistryOptions
  locks?: LocksOptions
  rateLimit?: RateLimitOptions | false
  session?: SessionOptions | false
  jwt?: JwtOptions | false
  cache?: CacheOptions | false
  /** Idempotency keys, for routes that enable them. @default {} */
  idempotency?: IdempotencyOptions | false
  /** Your Prisma client, which is health-checked and closed with the app. @default false */
  database?: DatabaseOptions | false
  dashboard?: DashboardOptions | false
}

// biome-ignore lint/suspicious/noExplicitAny: each plugin has its own type of options.
type AnyPlugin = FastifyPluginAsync<any> | FastifyPluginCallback<any>

type Values = FleetOptions & Record<string, unknown>

interface Entry {
  /** The option that configures the plugin; internal plugins have none. */
  readonly option?: keyof FleetOptions
  readonly plugin: AnyPlugin
  /** Value of the option if none is given. */
  readonly fallback: object | boolean
  readonly shape: Shape
  /** Options of the plugin. @default the value of `option` */
  readonly options?: (values: Values, app: FastifyInstance) => object | Promise<object>
  /** Whether the plugin is registered. @default unless the option is false */
  readonly when?: (values: Values) => boolean
}

type Extra = Partial<Pick<Entry, 'fallback' | 'shape' | 'options' | 'when'>>

const settings = record(any)
const settingsOrFalse = either(oneOf(false), settings)

const always = (option: keyof FleetOptions, plugin: AnyPlugin, extra: Extra = {}): Entry => ({
  option,
  plugin,
  fallback: {},
  shape: settings,
  ...extra,
})
const optional = (option: keyof FleetOptions, plugin: AnyPlugin, extra: Extra = {}): Entry => ({
  option,
  plugin,
  fallback: {},
  shape: settingsOrFalse,
  ...extra,
})
const internal = (plugin: AnyPlugin, when?: Entry['when']): Entry => ({
  plugin,
  fallback: {},
  shape: settings,
  options: () => ({}),
  when,
})

/** The database plugin needs optional packages, so it is loaded only if it is used. */
const lazyDatabase: AnyPlugin = fp(async (app: FastifyInstance, options: DatabaseOptions) => {
  const { database } = await import('./database/index.ts')
  await app.register(database, options)
})

/**
 * All plugins in the order in which a request meets them; they close in reverse order. `always` plugins cannot be
 * disabled, `optional` ones with `false`, and `internal` ones have no option.
 */
const plugins: readonly Entry[] = [
  always('identity', identity, {
    options: ({ identity, name }) => ({ ...identity, ...(name !== undefined && { name }) }),
  }),
  // First, because shedding a request must cost less than serving it.
  optional('overload', overload),
  always('lifecycle', lifecycle),
  always('operators', operators),
  optional('errorResponses', errorResponses, { fallback: true, shape: bool, options: () => ({}) }),
  internal(staticHeaders, ({ headers, helmet }) => headers !== false || helmet !== false),
  optional('headers', headers),
  optional('helmet', securityHeaders, {
    // The load balancer decides about https; over plain HTTP this directive breaks every asset of a page.
    fallback: { contentSecurityPolicy: { directives: { upgradeInsecureRequests: null } } },
  }),
  optional('cors', cors, { fallback: { origin: false } }),
  internal(load),
  optional('metrics', metrics),
  always('health', health),
  optional('loadBalancer', loadBalancer),
  optional('agentCheck', agentCheck),
  // Before the state plugins, so that a request for another region is redirected before anything is looked up.
  optional('geo', geo),
  always('redis', redis),
  internal(operatorLinks),
  always('broadcast', broadcast, {
    options: async (values, app) => {
      // The session's secret signs messages too, so its errors come first.
      if (values.session) await fleetSecret(app, values.session.secret)
      return { secret: codeSecret(values), ...values.broadcast }
    },
  }),
  always('registry', registry),
  always('locks', locks),
  optional('rateLimit', rateLimit),
  optional('session', session, {
    options: async ({ session }, app) => ({
      ...(session || {}),
      secret: await fleetSecret(app, session ? session.secret : undefined),
    }),
  }),
  optional('jwt', jwt),
  optional('database', lazyDatabase, { fallback: false }),
  optional('cache', cache),
  internal(httpCache, ({ cache }) => cache !== false),
  optional('idempotency', idempotency),
  optional('dashboard', dashboard),
  internal(worker),
]

const shapes: Shapes = {
  name: token,
  ...Object.fromEntries(plugins.flatMap(({ option, shape }) => (option ? [[option, shape]] : []))),
}
const defaults = Object.fromEntries(plugins.flatMap(({ option, fallback }) => (option ? [[option, fallback]] : [])))

/** A secret given in code for cookies or tokens signs messages too, unless FLEET_SECRET is set. */
function codeSecret({ session, jwt }: Values): string[] | undefined {
  if (readEnv().FLEET_SECRET) return undefined
  const given = [session ? session.secret : undefined, jwt ? jwt.secret : undefined]
  return given.map((secret): unknown[] => [secret].flat()).find((list): list is string[] => list.every(isSecret))
}
// Other values are rejected by the plugin that they were given to.
const isSecret = (text: unknown): boolean => typeof text === 'string' && Buffer.byteLength(text) >= 32

const plugin: FastifyPluginAsync<FleetOptions> = async (app, given) => {
  const values = resolveOptions<Values>('fleet', shapes, defaults, given)
  for (const { option, plugin, options, when } of plugins) {
    const enabled = when ? when(values) : !option || values[option] !== false
    if (enabled) await app.register(plugin, options ? await options(values, app) : values[option as string])
  }
}

/**
 * Turns an app into an instance of a fleet.
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_ENV_INVALID, FLEET_ERR_SECRET_WEAK,
 * FLEET_ERR_SECRET_MISSING, FLEET_ERR_MEMORY_IN_PRODUCTION while the app boots
 */
export const fleet: FastifyPluginAsync<FleetOptions> = fp(plugin, { name: 'fastify-fleet', fastify: '5.x' })
export default fleet
