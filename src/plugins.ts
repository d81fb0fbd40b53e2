// The plugins of fleet. Each is loaded when it is registered, so an app pays for what it uses only.

import type { FastifyCorsOptions } from '@fastify/cors'
import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import type { DashboardOptions } from './dashboard/index.ts'
import type { DatabaseOptions } from './database/index.ts'
import type { GeoOptions } from './geo/index.ts'
import type { LoadBalancerOptions } from './instance/admin-api.ts'
import type { AgentCheckOptions } from './instance/agent-check.ts'
import { fleetPlugin } from './instance/compat/index.ts'
import type { ErrorResponsesOptions } from './instance/error-responses.ts'
import type { HeadersOptions } from './instance/headers.ts'
import type { HealthOptions } from './instance/health/index.ts'
import type { IdentityOptions } from './instance/identity.ts'
import type { LifecycleOptions } from './instance/lifecycle/index.ts'
import type { MetricsOptions } from './instance/metrics/index.ts'
import type { OperatorsOptions } from './instance/operators/index.ts'
import type { OverloadOptions } from './instance/overload/index.ts'
import type { BroadcastOptions } from './state/broadcast/index.ts'
import type { CacheOptions } from './state/cache/index.ts'
import type { IdempotencyOptions } from './state/idempotency/index.ts'
import type { JwtOptions } from './state/jwt/index.ts'
import type { LocksOptions } from './state/locks/index.ts'
import type { RateLimitOptions } from './state/rate-limit/index.ts'
import type { RedisOptions } from './state/redis/index.ts'
import type { RegistryOptions } from './state/registry/index.ts'
import type { SessionOptions } from './state/session/index.ts'

/** It is called directly, so that it is registered under its name once. */
function lazy<T extends object = Record<never, never>>(
  name: string,
  load: () => Promise<FastifyPluginAsync<T>>,
): FastifyPluginAsync<T> {
  return fp(async (app: FastifyInstance, options: T) => (await load())(app, options), { name, fastify: '5.x' })
}

/** Decorates `app.fleet` with the identity of this instance and its fleet. */
export const identity: FastifyPluginAsync<IdentityOptions> = lazy(
  'fleet-identity',
  async () => (await import('./instance/identity.ts')).identity,
)

/** Sheds requests that a saturated process cannot serve in time, so that the others are served in time. */
export const overload: FastifyPluginAsync<OverloadOptions> = lazy(
  'fleet-overload',
  async () => (await import('./instance/overload/index.ts')).overload,
)

/** Drains and closes an instance without losing a request: SIGTERM, SIGINT, pm2, fatal errors, `app.fleet.shutdown()`. */
export const lifecycle: FastifyPluginAsync<LifecycleOptions> = lazy(
  'fleet-lifecycle',
  async () => (await import('./instance/lifecycle/index.ts')).lifecycle,
)

/** Authenticates operators, and optionally opens a separate listener for them. */
export const operators: FastifyPluginAsync<OperatorsOptions> = lazy(
  'fleet-operators',
  async () => (await import('./instance/operators/index.ts')).operators,
)

/** Sends every error as JSON with a code, without a stack and without messages of a lower layer. */
export const errorResponses: FastifyPluginAsync<ErrorResponsesOptions> = lazy(
  'fleet-error-responses',
  async () => (await import('./instance/error-responses.ts')).errorResponses,
)

/** Sends headers that describe the instance with every response. */
export const headers: FastifyPluginAsync<HeadersOptions> = lazy(
  'fleet-headers',
  async () => (await import('./instance/headers.ts')).headers,
)

/** @internal Security headers of @fastify/helmet. */
export const securityHeaders: FastifyPluginAsync<FastifyHelmetOptions> = lazy('fleet-helmet', async () => {
  const { securityHeaders: plugin, withHelmetDefaults } = await import('./instance/security-headers.ts')
  return (app, options) => plugin(app, withHelmetDefaults(options))
})

/** @internal @fastify/cors. */
export const cors: FastifyPluginAsync<FastifyCorsOptions> = lazy('fleet-cors', async () => {
  const { default: plugin } = await import('@fastify/cors')
  return fleetPlugin('cors', async (app, options: FastifyCorsOptions) => void (await app.register(plugin, options)))
})

/** Prometheus metrics of the app and its process. */
export const metrics: FastifyPluginAsync<MetricsOptions> = lazy(
  'fleet-metrics',
  async () => (await import('./instance/metrics/index.ts')).metrics,
)

/** Liveness, readiness and health endpoints that respond from cached reports. */
export const health: FastifyPluginAsync<HealthOptions> = lazy(
  'fleet-health',
  async () => (await import('./instance/health/index.ts')).health,
)

/** Operators' endpoints: state of an instance and its fleet, and commands that drain and undrain an instance. */
export const loadBalancer: FastifyPluginAsync<LoadBalancerOptions> = lazy(
  'fleet-load-balancer',
  async () => (await import('./instance/admin-api.ts')).loadBalancer,
)

/** Reports drains and load-dependent weights to HAProxy's agent check. */
export const agentCheck: FastifyPluginAsync<AgentCheckOptions> = lazy(
  'fleet-agent-check',
  async () => (await import('./instance/agent-check.ts')).agentCheck,
)

/** Decorates requests with `geo`: their country, and the best region for them. */
export const geo: FastifyPluginAsync<GeoOptions> = lazy('fleet-geo', async () => (await import('./geo/index.ts')).geo)

/**
 * Decorates `app.redis` and `app.redisKey()`. Commands never hang: while Redis is down they fail at once or within
 * `commandTimeoutMs`, and the client reconnects by itself.
 *
 * @throws FLEET_ERR_MEMORY_IN_PRODUCTION, FLEET_ERR_MEMORY_IN_WORKERS, FLEET_ERR_OPTION_INVALID
 */
export const redis: FastifyPluginAsync<RedisOptions> = lazy(
  'fleet-redis',
  async () => (await import('./state/redis/index.ts')).redis,
)

/** Adds `app.fleet.publish()` and `app.fleet.subscribe()`: messages to every instance of the fleet. */
export const broadcast: FastifyPluginAsync<BroadcastOptions> = lazy(
  'fleet-broadcast',
  async () => (await import('./state/broadcast/index.ts')).broadcast,
)

/**
 * Lists the whole fleet in `app.fleet.peers()` and sends `app.fleet.command()` to any instance. While Redis is unavailable the
 * last known peers stay, with their last `lastSeen`, and `app.fleet.facts.registry` is `last-known`.
 */
export const registry: FastifyPluginAsync<RegistryOptions> = lazy(
  'fleet-registry',
  async () => (await import('./state/registry/index.ts')).registry,
)

/** Adds `app.fleet.lock()` and `app.fleet.leader()`. */
export const locks: FastifyPluginAsync<LocksOptions> = lazy(
  'fleet-locks',
  async () => (await import('./state/locks/index.ts')).locks,
)

/**
 * Rate limits: @fastify/rate-limit with a sliding window that all instances share. Routes set
 * `config: { rateLimit: { max, timeWindow } }`, {@link perUser}, {@link authentication}, or `false`. While Redis is unavailable
 * each instance enforces its share of the limit, unless `onOutage` is `reject`.
 */
export const rateLimit: FastifyPluginAsync<RateLimitOptions> = lazy(
  'fleet-rate-limit',
  async () => (await import('./state/rate-limit/index.ts')).rateLimit,
)

/**
 * Decorates `request.session`, `app.sessions` and `app.decryptSession()`. Sessions are saved in Redis.
 *
 * @throws FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK, FLEET_ERR_OPTION_INVALID
 */
export const session: FastifyPluginAsync<SessionOptions> = lazy(
  'fleet-session',
  async () => (await import('./state/session/index.ts')).session,
)

/**
 * Decorates `app.tokens`, `app.authenticate` and `request.user`: access tokens (RFC 9068) with refresh rotation, and
 * revocation that takes effect on every instance within a second.
 *
 * @throws FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK, FLEET_ERR_OPTION_INVALID, FLEET_ERR_ENV_INVALID
 */
export const jwt: FastifyPluginAsync<JwtOptions> = lazy(
  'fleet-jwt',
  async () => (await import('./state/jwt/index.ts')).jwt,
)

/** Decorates `app.cache`: memory over Redis with single-flight loads and invalidation across the fleet. */
export const cache: FastifyPluginAsync<CacheOptions> = lazy(
  'fleet-cache',
  async () => (await import('./state/cache/index.ts')).cache,
)

/**
 * Caches the responses of routes with `config: { cache: { ttlMs, … } }` in `app.cache`, with `ETag`, `304`, `Age`, `Vary` and
 * `Cache-Control` (RFC 9111), and reports the result in `Cache-Status` (RFC 9211). One request per response in the whole
 * fleet reaches the handler, without any header that is not part of the key.
 *
 * Never stored: responses to requests with `Authorization` or cookies; responses with a cookie, with `no-store`, `no-cache`
 * or `private`, or with a `Vary` header that is not in the route's `vary`; any status but 200, 203, 204, 301 and 308.
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN when such a route is added
 */
export const httpCache: FastifyPluginAsync = lazy(
  'fleet-http-cache',
  async () => (await import('./state/http-cache/index.ts')).httpCache,
)

/**
 * `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a request that is repeated with its key runs once and gets
 * the first response, from any instance; 409 while the first is in flight, 422 if it is another request. So clients and load
 * balancers can safely retry a POST.
 *
 * Responses that invite a retry (5xx, 408, 425, 429) are not stored, nor are cookies. Errors:
 * FLEET_ERR_IDEMPOTENCY_KEY_MISSING, _KEY_INVALID, _KEY_REUSED, _IN_FLIGHT, _ANSWER_LOST, FLEET_ERR_STATE_UNAVAILABLE.
 */
export const idempotency: FastifyPluginAsync<IdempotencyOptions> = lazy(
  'fleet-idempotency',
  async () => (await import('./state/idempotency/index.ts')).idempotency,
)

/** A page for operators that shows every instance of the fleet and can drain it. */
export const dashboard: FastifyPluginAsync<DashboardOptions> = lazy(
  'fleet-dashboard',
  async () => (await import('./dashboard/index.ts')).dashboard,
)

/**
 * Communicates with the parent process if it opened a message channel: sends `ready` (pm2's `wait_ready`), and exchanges
 * heartbeats, drain commands and metrics with `fleet start`. Register it after health and metrics, on the app that listens.
 */
export const worker: FastifyPluginAsync = lazy('fleet-worker', async () => (await import('./host/worker.ts')).worker)

/** @internal Exported by `fastify-fleet/database`, because it needs optional packages. */
export const database: FastifyPluginAsync<DatabaseOptions> = lazy(
  'fleet-database',
  async () => (await import('./database/index.ts')).database,
)

/** @internal Makes one-time links to the dashboard work once in the whole fleet. */
export const operatorLinks: FastifyPluginAsync = lazy(
  'fleet-operator-links',
  async () => (await import('./state/operator-links.ts')).operatorLinks,
)
