// The response cache: `config.cache` on a route stores its responses in `app.cache`. Concepts:
//   RouteCache (options.ts)                the options of a route
//   ResponseCache (response-cache.ts)      what is stored, for whom, and how it is served
//   InternalRequest (internal-request.ts)  on a miss, calls the route through `app.inject()` with only those parts
//                                          of the request that form the cache key

import type { FastifyPluginAsync, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { FleetError } from '../../base/errors.ts'
import { either, object, oneOf } from '../../base/options.ts'
import { readRouteConfig } from '../../base/route-config.ts'
import { fleetPlugin } from '../../instance/compat/index.ts'
import cache from '../cache/index.ts'
import { applyScheme } from './internal-request.ts'
import { type CachedRoute, type RouteCache, routeCacheOptions } from './options.ts'
import { ResponseCache } from './response-cache.ts'

export type { RouteCache } from './options.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Cache the responses of this GET route. */
    cache?: RouteCache | false
  }
}

const routeCache = either(oneOf(false), object(routeCacheOptions))

/** @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN */
function resolveRoute(route: RouteOptions): CachedRoute | undefined {
  const found = readRouteConfig(route, 'cache', routeCache)
  if (!found) return undefined
  const { ttlMs, ...options } = found
  if (!ttlMs || ![route.method].flat().every((method) => method === 'GET' || method === 'HEAD'))
    throw new FleetError(
      'FLEET_ERR_OPTION_INVALID',
      `\`config.cache\` of ${route.method} ${route.url} needs a \`ttlMs\` and a route for GET and HEAD only`,
    )
  const constraints = Object.entries(route.constraints ?? {}).map(([name, value]) => `${name}=${value}`)
  // Routes of one path can differ by `Accept-Version`.
  const versioned = route.constraints?.version === undefined ? [] : ['accept-version']
  const vary = [...new Set([...options.vary.map((name) => name.toLowerCase()), ...versioned])]
  return { ...options, ttlMs, vary, id: [route.url, ...constraints].join(' ') }
}

const plugin: FastifyPluginAsync = async (app) => {
  await ensure(app, cache)
  const responses = new ResponseCache(app)
  app.addHook('onRequest', (request, _reply, done) => {
    applyScheme(request)
    done()
  })
  app.addHook('onRoute', (route: RouteOptions) => {
    const cached = resolveRoute(route)
    if (!cached) return
    // Last, after the hooks that authorize the client.
    route.preHandler = [
      route.preHandler ?? [],
      (request: FastifyRequest, reply: FastifyReply) => responses.begin(request, reply, cached),
    ].flat()
    // Last, after hooks that add headers which forbid storing.
    const end = async (request: FastifyRequest, reply: FastifyReply): Promise<void> =>
      responses.end(request, reply, cached)
    route.onSend = [route.onSend ?? [], end].flat()
  })
}

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
export const httpCache: FastifyPluginAsync = fleetPlugin('httpCache', plugin)
export default httpCache
