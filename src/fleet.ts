import type { FastifyCorsOptions } from '@fastify/cors'
import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { readEnv } from './base/env.ts'
import { any, bool, either, oneOf, record, resolveOptions, type Shapes, token } from './base/options.ts'
import { type DashboardOptions, dashboard } from './dashboard/index.ts'
import type { DatabaseOptions } from './database/index.ts'
import { type GeoOptions, geo } from './geo/index.ts'
import { worker } from './host/worker.ts'
import { type LoadBalancerOptions, loadBalancer } from './instance/admin-api.ts'
import { type AgentCheckOptions, agentCheck } from './instance/agent-check.ts'
import { crossOrigin } from './instance/cors.ts'
import { errorAnswers } from './instance/error-responses.ts'
import { type HeadersOptions, headers } from './instance/headers.ts'
import { type HealthOptions, health } from './instance/health/index.ts'
import { type IdentityOptions, identity } from './instance/identity.ts'
import { type LifecycleOptions, lifecycle } from './instance/lifecycle/index.ts'
import { type MetricsOptions, metrics } from './instance/metrics/index.ts'
import { type OperatorsOptions, operators } from './instance/operators/index.ts'
import { type OverloadOptions, overload } from './instance/overload/index.ts'
import { securityHeaders } from './instance/security-headers.ts'
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

/** Each room's options under its name; `false` leaves a room out where that is possible. */
export interface FleetOptions {
  /** Name of the fleet. @default FLEET_NAME, else `fleet` */
  name?: string
  identity?: Omit<IdentityOptions, 'name'>
  lifecycle?: LifecycleOptions
  operators?: OperatorsOptions
  headers?: HeadersOptions | false
  /** Refuses what a saturated process cannot do in time. @default {} */
  overload?: OverloadOptions | false
  health?: HealthOptions
  metrics?: MetricsOptions | false
  loadBalancer?: LoadBalancerOptions | false
  agentCheck?: AgentCheckOptions | false
  /** Country and region of a request. @default {}: no edge is believed, no database, one region */
  geo?: GeoOptions | false
  /** JSON error answers with a code, without stacks. @default true */
  errorAnswers?: boolean
  /** Security headers, as in @fastify/helmet. @default its defaults, without upgrade-insecure-requests */
  helmet?: FastifyHelmetOptions | false
  /** As in @fastify/cors. @default { origin: false }: browsers of other origins are not let in */
  cors?: FastifyCorsOptions | false
  redis?: RedisOptions
  /** Messages between instances; `secret` signs the registry's entries as well. @default {} */
  broadcast?: BroadcastOptions
  registry?: RegistryOptions
  locks?: LocksOptions
  rateLimit?: RateLimitOptions | false
  session?: SessionOptions | false
  jwt?: JwtOptions | false
  cache?: CacheOptions | false
  /** Idempotency keys, for the routes that ask for them. @default {} */
  idempotency?: IdempotencyOptions | false
  /** A Prisma client of yours, checked and closed with the app. @default false */
  database?: DatabaseOptions | false
  dashboard?: DashboardOptions | false
}

const room = record(any)
const optional = either(oneOf(false), room)
const shapes: Shapes = {
  name: token,
  identity: room,
  lifecycle: room,
  operators: room,
  headers: optional,
  overload: optional,
  health: room,
  metrics: optional,
  loadBalancer: optional,
  agentCheck: optional,
  geo: optional,
  errorAnswers: bool,
  helmet: optional,
  cors: optional,
  redis: room,
  broadcast: room,
  registry: room,
  locks: room,
  rateLimit: optional,
  session: optional,
  database: optional,
  jwt: optional,
  cache: optional,
  idempotency: optional,
  dashboard: optional,
}
const defaults = {
  identity: {},
  lifecycle: {},
  operators: {},
  headers: {},
  overload: {},
  health: {},
  metrics: {},
  loadBalancer: {},
  agentCheck: {},
  geo: {},
  errorAnswers: true,
  // Which scheme a page came by is the front's business: over plain HTTP this directive breaks every asset of it.
  helmet: { contentSecurityPolicy: { directives: { upgradeInsecureRequests: null } } },
  cors: { origin: false },
  redis: {},
  broadcast: {},
  registry: {},
  locks: {},
  rateLimit: {},
  session: {},
  database: false,
  jwt: {},
  cache: {},
  idempotency: {},
  dashboard: {},
} satisfies FleetOptions

/** A secret that code gives for cookies or tokens signs messages too, unless the environment has one for these alone. */
function codeSecret({ session, jwt }: FleetOptions): string[] | undefined {
  if (readEnv().FLEET_SECRET) return undefined
  const given = [session ? session.secret : undefined, jwt ? jwt.secret : undefined]
  return given.map((secret): unknown[] => [secret].flat()).find((list): list is string[] => list.every(isSecret))
}
// What is none is for the plugin to reject that it was given to.
const isSecret = (text: unknown): boolean => typeof text === 'string' && Buffer.byteLength(text) >= 32

/** In the order in which a request meets the rooms; they close in the reverse order. */
const plugin: FastifyPluginAsync<FleetOptions> = async (app, given) => {
  const options = resolveOptions<FleetOptions & typeof defaults>('fleet', shapes, defaults, given)
  const { name } = options

  await app.register(identity, { ...options.identity, ...(name === undefined ? {} : { name }) })
  // The first to see a request: a refusal must not cost what it is there to save.
  if (options.overload) await app.register(overload, options.overload)
  await app.register(lifecycle, options.lifecycle)
  await app.register(operators, options.operators)
  if (options.errorAnswers) await app.register(errorAnswers)
  if (options.headers) await app.register(headers, options.headers)
  if (options.helmet) await app.register(securityHeaders, options.helmet)
  if (options.cors) await app.register(crossOrigin, options.cors)
  if (options.metrics) await app.register(metrics, options.metrics)
  await app.register(health, options.health)
  if (options.loadBalancer) await app.register(loadBalancer, options.loadBalancer)
  if (options.agentCheck) await app.register(agentCheck, options.agentCheck)
  // Who belongs to another region is sent there before anything is looked up for him.
  if (options.geo) await app.register(geo, options.geo)

  await app.register(redis, options.redis)
  await app.register(operatorLinks)
  const secret = options.session ? await fleetSecret(app, options.session.secret) : undefined
  await app.register(broadcast, { secret: codeSecret(options), ...options.broadcast })
  await app.register(registry, options.registry)
  await app.register(locks, options.locks)
  if (options.rateLimit) await app.register(rateLimit, options.rateLimit)
  if (options.session) await app.register(session, { ...options.session, ...(secret && { secret }) })
  if (options.jwt) await app.register(jwt, options.jwt)
  if (options.database) {
    const { database } = await import('./database/index.ts')
    await app.register(database, options.database)
  }
  if (options.cache) {
    await app.register(cache, options.cache)
    await app.register(httpCache)
  }
  if (options.idempotency) await app.register(idempotency, options.idempotency)
  if (options.dashboard) await app.register(dashboard, options.dashboard)
  await app.register(worker)
}

/**
 * Turns an app into an instance of a fleet.
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_ENV_INVALID, FLEET_ERR_SECRET_WEAK,
 * FLEET_ERR_SECRET_MISSING, FLEET_ERR_MEMORY_IN_PRODUCTION when the app is made ready
 */
export const fleet: FastifyPluginAsync<FleetOptions> = fp(plugin, { name: 'fastify-fleet', fastify: '5.x' })
export default fleet
