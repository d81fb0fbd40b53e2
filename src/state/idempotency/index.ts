// The idempotency plugin. Concepts:
//   IdempotencyStore (store.ts)         one record per key: in flight, then completed; memory-store.ts, redis-store.ts
//   CallerScope (scope.ts)              the caller that a key belongs to
//   request.ts                          key and fingerprint of a request
//   IdempotencyHandler (handler.ts)     what happens before and after the route's handler
//   PendingWrites (pending-writes.ts)   results that Redis could not store yet

import type { FastifyPluginAsync, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { bool, either, object, resolveOptions } from '../../base/options.ts'
import { rejectRenamed } from '../../base/renamed-options.ts'
import { readRouteConfig, warnOfEarlierRoutes } from '../../base/route-config.ts'
import { fleetPlugin } from '../../instance/compat/index.ts'
import identity from '../../instance/identity.ts'
import { expose } from '../../instance/metrics/expose.ts'
import { MemoryLimitStore } from '../rate-limit/memory-store.ts'
import { RedisLimitStore } from '../rate-limit/redis-store.ts'
import redis, { redisOf } from '../redis/index.ts'
import { first, IdempotencyHandler, type KeyedRequest } from './handler.ts'
import { MemoryIdempotencyStore } from './memory-store.ts'
import { type IdempotencyOptions, idempotencyOptions, type RouteIdempotency, renamed, routeOptions } from './options.ts'
import { RedisIdempotencyStore } from './redis-store.ts'

export type { IdempotencyOptions, RouteIdempotency } from './options.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Accept `Idempotency-Key` on this route; `false`: never. */
    idempotency?: boolean | RouteIdempotency
  }
}

const routeIdempotency = either(bool, object(routeOptions))

const plugin: FastifyPluginAsync<IdempotencyOptions> = async (app, given) => {
  await ensure(app, identity, redis)
  rejectRenamed('idempotency', given, renamed)
  const resolved = resolveOptions('idempotency', idempotencyOptions, given)
  const options = { ...resolved, credentialHeaders: resolved.credentialHeaders.map((name) => name.toLowerCase()) }
  app.fleet.configure('idempotency', options)
  if (options.global) warnOfEarlierRoutes(app, 'idempotency.global')
  const client = redisOf(app)
  app.fleet.describe('idempotencyStore', client ? 'redis' : 'memory')
  const store = client ? new RedisIdempotencyStore(client, app.redisKey) : new MemoryIdempotencyStore()
  const limits = client ? new RedisLimitStore(client, app.redisKey) : new MemoryLimitStore()
  const idempotency = new IdempotencyHandler(store, limits, options)
  expose(app, 'fleet_idempotency_requests_total', 'Requests with an Idempotency-Key', 'result', idempotency.counts)
  app.addHook('onClose', async () => idempotency.close())

  app.decorateRequest(first, null)
  app.addHook('onRoute', (route: RouteOptions) => {
    const wanted =
      readRouteConfig(route, 'idempotency', routeIdempotency) ??
      (options.global && /POST|PATCH/.test(String(route.method)))
    if (!wanted) return
    const { required, ttlMs, onOutage } = options
    const own = typeof wanted === 'object' ? (route.config?.idempotency as RouteIdempotency) : undefined
    const resolved = resolveOptions('idempotency', routeOptions, { required, ttlMs, onOutage }, own)
    const begin = (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> =>
      idempotency.begin(request as KeyedRequest, reply, resolved)
    // Last, after the hooks that authorize the client.
    route.preHandler = [route.preHandler ?? [], begin].flat()
    // A hijacked reply skips `onSend`, and its content is unknown.
    const hijacked = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
      if ((request as KeyedRequest)[first]) await idempotency.end(request as KeyedRequest, reply, reply.raw)
    }
    route.onResponse = [route.onResponse ?? [], hijacked].flat()
  })
  // A hook of the app runs before those registered later, so that the response is stored uncompressed.
  app.addHook('onSend', (request, reply, payload, done) => {
    // `undefined` on routes of plugins registered before this one.
    if (!(request as KeyedRequest)[first]) done(null, payload)
    else idempotency.end(request as KeyedRequest, reply, payload).then(() => done(null, payload))
  })
}

/**
 * `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a request that is repeated with its key runs once and gets
 * the first response, from any instance; 409 while the first is in flight, 422 if it is another request. So clients and load
 * balancers can safely retry a POST.
 *
 * Responses that invite a retry (5xx, 408, 425, 429) are not stored, nor are cookies. Errors:
 * FLEET_ERR_IDEMPOTENCY_KEY_MISSING, _KEY_INVALID, _KEY_REUSED, _IN_FLIGHT, _ANSWER_LOST, FLEET_ERR_STATE_UNAVAILABLE.
 */
export const idempotency: FastifyPluginAsync<IdempotencyOptions> = fleetPlugin('idempotency', plugin)
export default idempotency
