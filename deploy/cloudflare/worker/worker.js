/**
 * Sends each request to the nearest healthy region. Bindings (JSON): REGIONS, by name `{ url, latitude, longitude }`,
 * and COUNTRIES, which maps a country to the name of its region, for data that must not leave it.
 *
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

/** Failed regions by url, with the end of their cooldown. */
const failedUntil = new Map()

/** Radians of the great circle between two places (haversine). */
function distance(a, b) {
  const [lat1, lat2] = [a.latitude, b.latitude].map((degrees) => (degrees * Math.PI) / 180)
  const dLat = lat2 - lat1
  const dLon = ((b.longitude - a.longitude) * Math.PI) / 180
  return 2 * Math.asin(Math.sqrt(Math.sin(dLat / 2) ** 2 + Math.cos(lat1) * Math.cos(lat2) * Math.sin(dLon / 2) ** 2))
}

/** The regions that a client may use, best first. */
function candidates(cf, regions, countries) {
  const bound = regions[countries[cf?.country]]
  if (bound) return [{ name: countries[cf.country], ...bound }]
  const all = Object.entries(regions).map(([name, region]) => ({ name, ...region }))
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
  failedUntil.set(region.url, Date.now() + cooldownMs)
  try {
    const response = await fetch(at(region, '/ready'), {
      signal: AbortSignal.timeout(probeTimeoutMs),
      redirect: 'manual',
    })
    if (response.status === 200) failedUntil.delete(region.url)
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
    const all = candidates(request.cf, env.REGIONS, env.COUNTRIES ?? {})
    for (const region of all) {
      const until = failedUntil.get(region.url)
      if (until !== undefined && until <= Date.now()) ctx.waitUntil(probe(region))
    }
    const healthy = all.filter(({ url }) => !failedUntil.has(url))
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
      failedUntil.set(region.url, Date.now() + cooldownMs)
    }
    if (last) return mark(last.response, last.region)
    return Response.json(
      { statusCode: 502, error: 'Bad Gateway', message: 'no region is available' },
      { status: 502, headers: { 'Retry-After': '10' } },
    )
  },
}
