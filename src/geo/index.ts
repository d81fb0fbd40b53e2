import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { TrustProxy } from '../base/client-address.ts'
import { FleetError } from '../base/errors.ts'
import {
  bool,
  either,
  int,
  list,
  object,
  oneOf,
  path,
  record,
  resolveLegacy,
  type Shapes,
  text,
  trustProxy,
} from '../base/options.ts'
import { urlAt } from '../base/urls.ts'
import type { ProbeOptions } from '../edge/balancer/probe.ts'
import { Clients, clientAddress } from '../instance/client-key.ts'
import { hasOwnRoute } from '../instance/compat/index.ts'
import { identity } from '../instance/identity.ts'
import { ownRoute } from '../instance/own-routes.ts'
import type { GeoDatabase } from './database.ts'
import { type Location, Locator } from './locator.ts'
import type { RegionOptions, Regions } from './regions.ts'

export type { Place } from './place.ts'
export type { RegionOptions } from './regions.ts'

/**
 * The country of a request, and the best region for it.
 *
 * - `locator.ts` finds the country: in a header of a trusted edge (a CDN, a cloud load balancer), else in the database.
 * - `database.ts` reads a MaxMind DB file through mmdb-lib, an optional peer dependency.
 * - `regions.ts` probes the regions of a service and orders them for a client.
 */

export interface GeoOptions {
  /**
   * Edges (CDN, cloud load balancer) whose country headers are trusted: addresses, CIDR blocks, or `loopback`,
   * `linklocal`, `uniquelocal`. From any other address these headers are ignored. @default []
   */
  edges?: string[]
  /** Trusted proxies between the edge and this instance, as `identity.trustProxy`. @default that of `identity`, else TRUST_PROXY */
  trustProxy?: TrustProxy
  /** Headers with a country code, in order. @default those of Cloudflare, CloudFront, App Engine, Vercel, and `X-Country-Code` */
  headers?: string[]
  /** Path of a MaxMind DB file (GeoLite2-City, GeoIP2-Country, …) for requests without a country from an edge; needs mmdb-lib. @default none */
  database?: string
  /** By name; that of this instance is its `region`. @default {} */
  regions?: Record<string, RegionOptions>
  /** Redirects GET and HEAD requests that belong to another region there, with 307. @default false */
  redirect?: boolean
  /** Path at which a client finds its region; `false` for none. @default '/api/v1/geo/endpoint' */
  endpoint?: string | false
  /** How the health of other regions is probed. @default `{ path: '/ready', intervalMs: 5000, timeoutMs: 2000 }` */
  probe?: Partial<ProbeOptions>
}

export interface Geo extends Location {
  /** The best region for this request; undefined without regions. */
  readonly region?: string
}

/** The part of {@link Regions} that the plugin uses; without regions, an empty one. */
type RegionList = Pick<Regions, 'all' | 'rank' | 'close'>

type Optional = 'database' | 'trustProxy'
type Resolved = Required<Omit<GeoOptions, Optional | 'probe'>> & Pick<GeoOptions, Optional> & { probe: ProbeOptions }

const ms = int(1, 3_600_000, 'milliseconds')
const shapes: Shapes = {
  edges: list(text),
  trustProxy,
  headers: list(text),
  database: text,
  regions: record(object({})),
  redirect: bool,
  endpoint: either(oneOf(false), path),
  probe: object({
    type: oneOf('http', 'tcp', 'off'),
    path,
    intervalMs: ms,
    timeoutMs: ms,
    rise: int(1, 100),
    fall: int(1, 100),
  }),
}
const defaults = {
  edges: [] as string[],
  headers: [
    'cf-ipcountry',
    'cloudfront-viewer-country',
    'x-appengine-country',
    'x-vercel-ip-country',
    'x-country-code',
  ],
  regions: {},
  redirect: false,
  endpoint: '/api/v1/geo/endpoint',
  probe: { type: 'http', path: '/ready', intervalMs: 5000, timeoutMs: 2000, rise: 2, fall: 2 },
} satisfies Resolved

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

/** Loads the prober only when there are regions. @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_TARGET_INVALID */
async function regionsOf({ regions, probe }: Resolved, own: string | undefined): Promise<RegionList> {
  if (Object.keys(regions).length === 0) return { all: [], rank: () => [], close() {} }
  const { Regions } = await import('./regions.ts')
  return new Regions(regions, own, probe)
}

/** @throws FLEET_ERR_PACKAGE_MISSING, FLEET_ERR_GEO_DATABASE */
async function databaseOf({ database }: Resolved): Promise<GeoDatabase | undefined> {
  if (database === undefined) return undefined
  const { GeoDatabase } = await import('./database.ts').catch((cause: unknown) => {
    throw new FleetError('FLEET_ERR_PACKAGE_MISSING', '`geo.database` needs mmdb-lib: npm install mmdb-lib', { cause })
  })
  return GeoDatabase.open(database)
}

const plugin: FastifyPluginAsync<GeoOptions> = async (app, given) => {
  if (!app.hasDecorator('fleet')) await app.register(identity)
  const options = resolveLegacy<Resolved>('geo', shapes, defaults, given)
  const own = app.fleet.instance.region
  const regions = await regionsOf(options, own)
  app.addHook('onClose', async () => regions.close())
  if (options.redirect && (own === undefined || !(own in options.regions))) {
    regions.close()
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`geo.redirect` needs FLEET_REGION to be one of `geo.regions`')
  }
  const locator = new Locator(options, await databaseOf(options))
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
  app.get(options.endpoint, { ...ownRoute, schema: endpointSchema }, async (request, reply) => {
    const { country, place, source } = geoOf(request)
    const [best, ...others] = regions.rank(country, place)
    reply.header('Cache-Control', 'no-store')
    return {
      country: country ?? null,
      source,
      region: best?.name ?? null,
      endpoint: best?.url ?? null,
      current: own ?? null,
      alternatives: others.map(({ name, url, healthy }) => ({ region: name, endpoint: url, healthy })),
    }
  })
}

/**
 * A request whose `Host` is that of a region is not redirected. This prevents loops, even if two regions disagree about
 * the best one.
 */
function redirectElsewhere(app: FastifyInstance, regions: RegionList, own: string, endpoint: string | false): void {
  const hosts = new Set(regions.all.map(({ host }) => host))
  app.addHook('onRequest', async (request, reply) => {
    const { method, headers, routeOptions, originalUrl } = request
    const exempt = routeOptions.config.probe === true || routeOptions.url === endpoint || headers.upgrade !== undefined
    if (exempt || (method !== 'GET' && method !== 'HEAD') || !originalUrl.startsWith('/')) return
    if (hosts.has(headers.host ?? '')) return
    const { country, place } = request.geo
    const [best] = regions.rank(country, place)
    if (!best || best.name === own || !best.healthy) return
    // Neither a country nor a distance led to this region; it is only the first one.
    if (!place && (country === undefined || !best.countries.has(country))) return
    reply.header('Cache-Control', 'no-store')
    return reply.redirect(urlAt(best.url, originalUrl).href, 307)
  })
}

/** Decorates requests with `geo`: their country, and the best region for them. */
export const geo: FastifyPluginAsync<GeoOptions> = fp(plugin, { name: 'fleet-geo', fastify: '5.x' })
export default geo
