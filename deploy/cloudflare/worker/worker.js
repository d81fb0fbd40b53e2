/**
 * Sends each request to the nearest healthy region of its pool. Bindings:
 *
 * - REGIONS (JSON): the regions of the pool `default`, by name `{ url, latitude, longitude }`.
 * - POOLS (JSON): the regions of other pools, by pool.
 * - ROUTES (text): which requests belong to which pool, `MATCH=POOL` separated by spaces, commas or newlines. MATCH is a
 *   path prefix (`/api/v2`), a host with or without a path (`//shop.example.com/api`), or a header (`x-version:2`).
 * - COUNTRIES (JSON): maps a country to the name of its region, for data that must not leave it.
 *
 * How it behaves:
 *
 * - Header routes come first, in their order, then hosts, then paths; the longest path wins. A request never leaves its
 *   pool, and each pool has its own state of regions.
 * - Nearest means by distance from the client's location, as reported by Cloudflare, or by country where COUNTRIES has
 *   an entry.
 * - After a failure a region gets no requests for a while, then none until /ready responds 200. Each data centre keeps
 *   this state in memory and may lose it; no request waits for a probe.
 * - A request is retried in the next region only if it is safe (RFC 9110, section 9.2.1). A POST that was sent may have
 *   been executed: its client gets the response as it is.
 * - A country that is bound to a region never uses another one.
 */

/** Time without requests for a region that failed, ms. */
const cooldownMs = 10_000
/** Longest wait of a safe request for the response's headers, and of a probe for the whole response, ms. */
const headersTimeoutMs = 15_000
const probeTimeoutMs = 2_000

const safe = new Set(['GET', 'HEAD', 'OPTIONS'])
/** Statuses of a region that is down: 502 to 504 from its load balancer, else Cloudflare's when that is unreachable. */
const isDown = (status) => (status >= 502 && status <= 504) || (status >= 520 && status <= 527) || status === 530

/** Headers that describe the requested URL to a load balancer or an application. Removed from client requests. */
const describesUrl = /^(?:forwarded|x-forwarded-(?!for$).*|x-original-.*|x-rewrite-.*|x-host|x-http-host-override)$/

/** Failed regions by pool and url, with the end of their cooldown. */
const failedUntil = new Map()

/**
 * A path as a server may read it, for comparison only: decoded, in lower case, without double slashes, dot segments and
 * matrix parameters.
 */
function canonicalPath(pathname) {
  const decoded = pathname.replace(/%([0-7][0-9a-f])/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))
  const segments = []
  for (const segment of decoded.toLowerCase().split(/[/\\]+/)) {
    const name = segment.replace(/;.*$/s, '')
    if (name === '..') segments.pop()
    else if (name !== '' && name !== '.') segments.push(name)
  }
  return segments.map((name) => `/${name}`).join('')
}

const isBeneath = (path, prefix) => path === prefix || path.startsWith(`${prefix}/`)
const hostOf = (name) => name.toLowerCase().replace(/\.?(?::\d+)?$/, '')

/** @throws if the route is malformed, or its pool does not exist */
function parseRoute(entry, pools) {
  const end = entry.lastIndexOf('=')
  const [match, pool] = [entry.slice(0, end), entry.slice(end + 1)]
  if (end < 1) throw new Error(`ROUTES: "${entry}" is not MATCH=POOL`)
  if (!Object.hasOwn(pools, pool)) throw new Error(`ROUTES: "${entry}" names the unknown pool "${pool}"`)
  const [, header, value] = /^([\w!#$%&'*+.^`|~-]+):(.+)$/.exec(match) ?? []
  if (header) return { rank: 0, pool, path: '', matches: (request) => request.headers.get(header) === value }
  const [, , host, rest] = /^(\/\/([^/]+))?((?:\/.*)?)$/.exec(match) ?? []
  if (rest === undefined) throw new Error(`ROUTES: "${entry}" has no path, host or header`)
  const path = canonicalPath(new URL(`https://route${rest}`).pathname)
  if (host === undefined) return { rank: 2, pool, path, matches: (_, __, asked) => isBeneath(asked, path) }
  const name = hostOf(host)
  return { rank: 1, pool, path, matches: (_, url, asked) => hostOf(url.hostname) === name && isBeneath(asked, path) }
}

let routes
let routesText

/** The name of a request's pool. */
function poolOf(request, text, pools) {
  if (text !== routesText) {
    const entries = text.split(/[\s,]+/).filter((entry) => entry !== '')
    // The sort is stable: header routes keep their order.
    const byRank = (a, b) => a.rank - b.rank || b.path.length - a.path.length
    routes = entries.map((entry) => parseRoute(entry, pools)).sort(byRank)
    routesText = text
  }
  const url = new URL(request.url)
  const path = canonicalPath(url.pathname)
  return routes.find(({ matches }) => matches(request, url, path))?.pool ?? 'default'
}

/** Radians of the great circle between two places (haversine). */
function distance(a, b) {
  const [lat1, lat2] = [a.latitude, b.latitude].map((degrees) => (degrees * Math.PI) / 180)
  const dLat = lat2 - lat1
  const dLon = ((b.longitude - a.longitude) * Math.PI) / 180
  return 2 * Math.asin(Math.sqrt(Math.sin(dLat / 2) ** 2 + Math.cos(lat1) * Math.cos(lat2) * Math.sin(dLon / 2) ** 2))
}

/** The regions of a pool that a client may use, best first. */
function candidates(cf, pool, regions, countries) {
  const entries = Object.entries(regions)
  const bound = Object.hasOwn(countries, cf?.country) ? countries[cf.country] : undefined
  const usable = bound === undefined ? entries : entries.filter(([name]) => name === bound)
  const all = usable.map(([name, region]) => ({ name, key: `${pool} ${region.url}`, ...region }))
  const place = { latitude: Number(cf?.latitude), longitude: Number(cf?.longitude) }
  if (Number.isNaN(place.latitude) || Number.isNaN(place.longitude)) return all
  return all.sort((a, b) => distance(place, a) - distance(place, b))
}

/**
 * The URL of a path in a region. Set part by part: as a relative reference, `//host/x` and `/\host/x` would name
 * another origin, and the client's cookies would be sent there.
 */
function at(region, pathname, search = '') {
  const url = new URL(region.url)
  url.pathname = pathname
  url.search = search
  return url
}

/**
 * Probes a region whose cooldown is over, in parallel with the request. Until the probe succeeds the region gets no
 * requests.
 */
async function probe(region) {
  failedUntil.set(region.key, Date.now() + cooldownMs)
  try {
    const response = await fetch(at(region, '/ready'), {
      signal: AbortSignal.timeout(probeTimeoutMs),
      redirect: 'manual',
    })
    if (response.status === 200) failedUntil.delete(region.key)
  } catch {
    // The cooldown continues.
  }
}

async function send(region, request) {
  const url = new URL(request.url)
  const copy = new Request(at(region, url.pathname, url.search), request)
  for (const [name] of request.headers) if (describesUrl.test(name)) copy.headers.delete(name)
  copy.headers.set('X-Forwarded-Host', url.host)
  copy.headers.set('X-Forwarded-Proto', url.protocol.slice(0, -1))
  if (!safe.has(request.method)) return fetch(copy, { redirect: 'manual' })
  const timeout = new AbortController()
  const timer = setTimeout(() => timeout.abort(), headersTimeoutMs)
  try {
    return await fetch(copy, { redirect: 'manual', signal: timeout.signal })
  } finally {
    // The headers have arrived: the body, a download or an event stream, may take any time.
    clearTimeout(timer)
  }
}

function mark(response, region) {
  // A 101 response cannot be modified.
  if (response.status === 101) return response
  const marked = new Response(response.body, response)
  marked.headers.set('X-Fleet-Region', region.name)
  return marked
}

export default {
  async fetch(request, env, ctx) {
    const pools = { ...env.POOLS, default: env.REGIONS }
    const pool = poolOf(request, env.ROUTES ?? '', pools)
    const all = candidates(request.cf, pool, pools[pool], env.COUNTRIES ?? {})
    for (const region of all) {
      const until = failedUntil.get(region.key)
      if (until !== undefined && until <= Date.now()) ctx.waitUntil(probe(region))
    }
    const healthy = all.filter(({ key }) => !failedUntil.has(key))
    // If all have failed, one may have recovered.
    const order = healthy.length > 0 ? healthy : all
    const tries = safe.has(request.method) ? order : order.slice(0, 1)
    let last
    for (const region of tries) {
      try {
        const response = await send(region, request)
        if (!isDown(response.status)) return mark(response, region)
        last = { response, region }
      } catch {
        // Unreachable, or timed out.
      }
      failedUntil.set(region.key, Date.now() + cooldownMs)
    }
    if (last) return mark(last.response, last.region)
    return Response.json(
      {
        statusCode: 503,
        code: 'FLEET_ERR_NO_TARGET',
        error: 'Service Unavailable',
        message: pool === 'default' ? 'no region is available' : `no region of the pool ${pool} is available`,
      },
      { status: 503, headers: { 'Retry-After': '10', 'Cache-Control': 'no-store' } },
    )
  },
}
