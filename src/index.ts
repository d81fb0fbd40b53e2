// The public API of `fastify-fleet`. Everything else in src is internal, except the subpaths in package.json's `exports`.
//
// `fleet` is the umbrella plugin (fleet.ts); each plugin that it registers can also be registered alone. This file loads no
// optional dependency: database, balancer and proxies export only types here, and their values are in subpaths such as
// `fastify-fleet/database` and `fastify-fleet/http-proxy`.
export { type FleetEnv, readEnv } from './base/env.ts'
export { FleetError, type FleetErrorCode, type FleetErrorOptions } from './base/errors.ts'
export { type DashboardOptions, dashboard } from './dashboard/index.ts'
export type {
  DatabaseClient,
  DatabaseOptions,
  MigrateOptions,
  MigrateResult,
  ReplicasOptions,
} from './database/index.ts'
export type { Balancer, BalancerOptions } from './edge/balancer/balancer.ts'
export type { Found, Source } from './edge/balancer/discovery.ts'
export type { PolicyName } from './edge/balancer/policies/index.ts'
export type { ProxyOptions, ReverseProxy } from './edge/http/server.ts'
export type { ProxyPluginOptions } from './edge/plugin/index.ts'
export type { TcpProxy, TcpProxyOptions } from './edge/tcp/index.ts'
export { default, type FleetOptions, fleet } from './fleet.ts'
export { type Geo, type GeoOptions, geo, type RegionOptions } from './geo/index.ts'
export { worker } from './host/worker.ts'
export { type LoadBalancerOptions, loadBalancer } from './instance/admin-api.ts'
export { type AgentCheckOptions, agentCheck } from './instance/agent-check.ts'
export { clientAddress, clientKey } from './instance/client-key.ts'
export { type ErrorResponse, errorResponses } from './instance/error-responses.ts'
export { type HeadersOptions, headerNames, headers } from './instance/headers.ts'
export type { Check, CheckOptions, CheckReport, Health, HealthOptions, HealthStatus } from './instance/health/index.ts'
export { health } from './instance/health/index.ts'
export { type IdentityOptions, type Instance, identity, type LifecycleState, type Peer } from './instance/identity.ts'
export { type LifecycleOptions, lifecycle } from './instance/lifecycle/index.ts'
export { type MetricsOptions, metrics } from './instance/metrics/index.ts'
export { type OperatorsOptions, operators, operatorsOnly } from './instance/operators/index.ts'
export { type Overload, type OverloadOptions, overload } from './instance/overload/index.ts'
export { serverOptions } from './instance/server-options.ts'
export { broadcast } from './state/broadcast/index.ts'
export { type Cache, type CacheOptions, cache, type Loader } from './state/cache/index.ts'
export { httpCache, type RouteCache } from './state/http-cache/index.ts'
export { type IdempotencyOptions, idempotency } from './state/idempotency/index.ts'
export { type JwtKey, type JwtOptions, jwt, type TokenClaims, type TokenPair } from './state/jwt/index.ts'
export { type Leadership, type LockOptions, type LocksOptions, locks } from './state/locks/index.ts'
export { authentication, byUser, perUser, type RateLimitOptions, rateLimit } from './state/rate-limit/index.ts'
export { type RedisClient, type RedisOptions, redis } from './state/redis/index.ts'
export { type RegistryOptions, registry } from './state/registry/index.ts'
export {
  FleetStore,
  type FleetStoreOptions,
  type SessionOptions,
  type Sessions,
  session,
} from './state/session/index.ts'
