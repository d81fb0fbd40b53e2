// The public API of `fastify-fleet`. Everything else in src is internal, except the subpaths in package.json's `exports`.
//
// `fleet` is the umbrella plugin (fleet.ts); each plugin that it registers can also be registered alone (plugins.ts). A plugin is
// loaded when it is registered. Database, balancer and proxies export only types here, and their values are in subpaths such as
// `fastify-fleet/database` and `fastify-fleet/http-proxy`.
export { type FleetEnv, readEnv } from './base/env.ts'
export { FleetError, type FleetErrorCode, type FleetErrorOptions } from './base/errors.ts'
export type { DashboardOptions } from './dashboard/index.ts'
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
export type { Geo, GeoOptions, RegionOptions } from './geo/index.ts'
export type { LoadBalancerOptions } from './instance/admin-api.ts'
export type { AgentCheckOptions } from './instance/agent-check.ts'
export { clientAddress, clientKey } from './instance/client-key.ts'
export type { ErrorResponse } from './instance/error-responses.ts'
export { type HeadersOptions, headerNames } from './instance/headers.ts'
export type { Check, CheckOptions, CheckReport, Health, HealthOptions, HealthStatus } from './instance/health/index.ts'
export type { IdentityOptions, Instance, LifecycleState, Peer } from './instance/identity.ts'
export type { LifecycleOptions } from './instance/lifecycle/index.ts'
export type { MetricsOptions } from './instance/metrics/index.ts'
export { type OperatorsOptions, operatorsOnly } from './instance/operators/index.ts'
export type { Overload, OverloadOptions } from './instance/overload/index.ts'
export { serverOptions } from './instance/server-options.ts'
export {
  agentCheck,
  broadcast,
  cache,
  dashboard,
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
  operators,
  overload,
  rateLimit,
  redis,
  registry,
  session,
  worker,
} from './plugins.ts'
export type { Cache, CacheOptions, Loader } from './state/cache/index.ts'
export type { RouteCache } from './state/http-cache/index.ts'
export type { IdempotencyOptions } from './state/idempotency/index.ts'
export type { JwtKey, JwtOptions, TokenClaims, TokenPair } from './state/jwt/index.ts'
export type { Leadership, LockOptions, LocksOptions } from './state/locks/index.ts'
export type { RateLimitOptions } from './state/rate-limit/index.ts'
export { authentication, byUser, perUser } from './state/rate-limit/keys.ts'
export type { RedisClient, RedisOptions } from './state/redis/index.ts'
export type { RegistryOptions } from './state/registry/index.ts'
export { FleetStore, type FleetStoreOptions, type SessionOptions, type Sessions } from './state/session/index.ts'
