// The country of a request, and the best region for it: `request.geo`, an endpoint, and an optional redirect.
//   locator.ts   finds the country: in a header of a trusted edge (a CDN, a cloud load balancer), else in the database
//   database.ts  reads a MaxMind DB file through mmdb-lib, an optional peer dependency
//   regions.ts   probes the regions of a service and orders them for a client
//   place.ts     the type of a place
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import { ensure } from '../base/ensure.ts'
import { FleetError } from '../base/errors.ts'
import {
  bool,
  either,
  list,
  type OptionsOf,
  object,
  oneOf,
  path,
  record,
  resolveOptions,
  type Shape,
  text,
  trustProxy,
} from '../base/options.ts'
import { urlAt } from '../base/urls.ts'
import { probeOptions } from '../edge/probe.ts'
import { Clients, clientAddress } from '../instance/client-key.ts'
import { fleetPlugin, hasOwnRoute } from '../instance/compat/index.ts'
import { identity } from '../instance/identity.ts'
import { ownRoute } from '../instance/own-routes.ts'
import type { GeoDatabase } from './database.ts'
import { type Location, Locator } from './locator.ts'
import { type RegionOptions, Regions, regionOptions } from './regions.ts'

export type { Place } from './place.ts'
export type { RegionOptions } from './regions.ts'

/** @internal */
export const geoOptions = {
  /**
   * Edges (CDN, cloud load balancer) whose country headers are trusted: addresses, CIDR blocks, or `loopback`,
   * `linklocal`, `uniquelocal`. From any other address these headers are ignored.
   */
  edges: list(text).default([]),
  /** Trusted proxies between the edge and this instance, as `identity.trustProxy`. @default that of `identity`, else `TRUST_PROXY` */
  trustProxy,
  /** Headers with a country code, in order. By default those of Cloudflare, CloudFront, App Engine, Vercel, and `X-Country-Code`. */
  headers: list(text).default([
    'cf-ipcountry',
    'cloudfront-viewer-country',
    'x-appengine-country',
    'x-vercel-ip-country',
    'x-country-code',
  ]),
  /** Path of a MaxMind DB file (GeoLite2-City, GeoIP2-Country, …) for requests without a country from an edge; needs mmdb-lib. */
  database: text,
  /** By name; that of this instance is its `region`. */
  regions: record(object(regionOptions) as Shape<RegionOptions>).default({}),
  /** Redirects GET and HEAD requests that belong to another region there, with 307. */
  redirect: bool.default(false),
  /** Path at which a client finds its region; `false` for none. */
  endpoint: either(oneOf(false), path).default('/api/v1/geo/endpoint'),
  /** How the health of other regions is probed. */
  probe: object({
    ...probeOptions,
    intervalMs: probeOptions.intervalMs.default(5000),
    timeoutMs: probeOptions.timeoutMs.default(2000),
  }).default({}),
}
export type GeoOptions = OptionsOf<typeof geoOptions>

export interface Geo extends Location {
  /** The best region for this request; undefined without regions. */
  readonly region?: string
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Where this request comes from; computed on first access. */
    readonly geo: Geo
  }
}

const string = { type: 'string' } as const
const endpointSchema = {
  summary: 'The best region for the client',
  tags: ['geo'],
  response: {
    200: {
      type: 'object',
      properties: {
        country: { ...string, nullable: true },
        source: string,
        region: { ...string, nullable: true },
        endpoint: { ...string, nullable: true },
        current: { ...string, nullable: true },
        alternatives: {
          type: 'array',
          items: { type: 'object', properties: { region: string, endpoint: string, healthy: { type: 'boolean' } } },
        },
      },
    },
  },
}

/** @throws FLEET_ERR_PACKAGE_MISSING, FLEET_ERR_GEO_DATABASE */
async function openDatabase(file: string): Promise<GeoDatabase> {
  const { GeoDatabase } = await import('./database.ts').catch((cause: unknown) => {
    throw new FleetError('FLEET_ERR_PACKAGE_MISSING', '`geo.database` needs mmdb-lib: npm install mmdb-lib', { cause })
  })
  return GeoDatabase.open(file)
}

const plugin: FastifyPluginAsync<GeoOptions> = async (app, given) => {
  await ensure(app, identity)
  const options = resolveOptions('geo', geoOptions, given)
  const own = app.fleet.instance.region
  if (options.redirect && (own === undefined || !(own in options.regions)))
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`geo.redirect` needs FLEET_REGION to be one of `geo.regions`')
  const locator = new Locator(
    options,
    options.database === undefined ? undefined : await openDatabase(options.database),
  )
  const regions = new Regions(options.regions, own, options.probe)
  app.addHook('onClose', async () => regions.close())
  const clients = options.trustProxy === undefined ? undefined : new Clients(options.trustProxy, 'geo.trustProxy')
  app.fleet.configure('geo', options)

  const cache = new WeakMap<FastifyRequest, Geo>()
  const geoOf = (request: FastifyRequest): Geo => {
    let geo = cache.get(request)
    if (!geo) {
      const location = locator.locate(
        (edges) => (clients ? clients.address(request, edges) : clientAddress(request, edges)),
        request.headers,
      )
      const [best] = regions.rank(location.country, location.place)
      geo = best ? { ...location, region: best.name } : location
      cache.set(request, geo)
    }
    return geo
  }
  app.decorateRequest('geo', {
    getter(this: FastifyRequest) {
      return geoOf(this)
    },
  })
  if (options.redirect) redirectElsewhere(app, regions, own as string, options.endpoint)
  if (options.endpoint === false || hasOwnRoute(app, 'GET', options.endpoint)) return
  app.get(options.endpoint, ownRoute(endpointSchema), async (request, reply) => {
    const { country, place, source } = geoOf(request)
    const [best, ...others] = regions.rank(country, place)
    reply.header('Cache-Control', 'no-store')
    return {
      country: country ?? null,
      source,
      region: best?.name ?? null,
      endpoint: best?.url.origin ?? null,
      current: own ?? null,
      alternatives: others.map(({ name, url, healthy }) => ({ region: name, endpoint: url.origin, healthy })),
    }
  })
}

/**
 * A request whose `Host` is that of a region is not redirected. This prevents loops, even if two regions disagree about
 * the best one.
 */
function redirectElsewhere(app: FastifyInstance, regions: Regions, own: string, endpoint: string | false): void {
  const hosts = new Set(regions.all.map(({ url }) => plainHost(url.host)))
  const isOfRegion = (host: string | undefined): boolean => host !== undefined && hosts.has(plainHost(host))
  app.addHook('onRequest', async (request, reply) => {
    const { method, headers, routeOptions, originalUrl } = request
    const exempt = routeOptions.config.probe === true || routeOptions.url === endpoint || headers.upgrade !== undefined
    if (exempt || (method !== 'GET' && method !== 'HEAD') || !originalUrl.startsWith('/')) return
    // `request.host` may come from `:authority`, or from `X-Forwarded-Host` of a proxy that Fastify trusts.
    if (isOfRegion(request.host) || isOfRegion(headers.host)) return
    const { country, place } = request.geo
    // This region counts as healthy, so one that is down never comes first.
    const [best] = regions.rank(country, place)
    if (!best || best.name === own) return
    // Neither a country nor a distance led to this region; it is only the first one.
    if (!place && (country === undefined || !best.countries.has(country))) return
    reply.header('Cache-Control', 'no-store')
    return reply.redirect(urlAt(best.url.origin, originalUrl).href, 307)
  })
}

/** Without case and default port. */
const plainHost = (host: string): string => host.toLowerCase().replace(/:(?:80|443)$/, '')

/** Decorates requests with `geo`: their country, and the best region for them. */
export const geo: FastifyPluginAsync<GeoOptions> = fleetPlugin('geo', plugin)
export default geo
