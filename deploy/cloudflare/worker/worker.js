/**
 * Sends each request to the nearest region that is well. Bindings (JSON): REGIONS, by name `{ url, latitude, longitude }`,
 * and COUNTRIES, by country the name of its region, for data that must not leave it.
 *
 * - Near is by distance, from where Cloudflare places the client; by country where COUNTRIES says so.
 * - A region that fails is left alone for a while, and asked at /ready before it gets requests again. What a Worker
 *   knows it knows in one data centre, and forgets; no request waits for it to learn.
 * - A request is sent a second time, to the next region, only if it is safe (RFC 9110, section 9.2.1). A POST that was
 *   sent may have been carried out: its client gets the answer as it is.
 * - A country that is bound to a region never goes elsewhere.
 */

/** How long a region that failed is left alone, ms. */
const leaveAloneMs = 10_000
/** A safe request waits so long for the head of an answer, ms, and a probe so long for all of it. */
const patienceMs = 15_000
const probePatienceMs = 2_000

const safe = new Set(['GET', 'HEAD', 'OPTIONS'])
/** What a front says when it has nobody: 502 to 504, and Cloudflare's own when it does not reach the front. */
const isDown = (status) => (status >= 502 && status <= 504) || (status >= 520 && status <= 527) || status === 530

/** Headers that tell a front or an application which URL was asked for. From a client none of them is passed on. */
const describesUrl = /^(?:forwarded|x-forwarded-(?!for$).*|x-original-.*|x-rewrite-.*|x-host|x-http-host-override)$/

/** Regions that failed, by url: until when they are left alone. */
const away = new Map()

/** Radians of the great circle between two places (haversine). */
function distance(a, b) {
  const [lat1, lat2] = [a.latitude, b.latitude].map((degrees) => (degrees * Math.PI) / 180)
  const dLat = lat2 - lat1
  const dLon = ((b.longitude - a.longitude) * Math.PI) / 180
  return 2 * Math.asin(Math.sqrt(Math.sin(dLat / 2) ** 2 + Math.cos(lat1) * Math.cos(lat2) * Math.sin(dLon / 2) ** 2))
}

/** Regions a client may use, the best first. */
function candidates(cf, regions, countries) {
  const bound = regions[countries[cf?.country]]
  if (bound) return [{ name: countries[cf.country], ...bound }]
  const all = Object.entries(regions).map(([name, region]) => ({ name, ...region }))
  const place = { latitude: Number(cf?.latitude), longitude: Number(cf?.longitude) }
  if (Number.isNaN(place.latitude) || Number.isNaN(place.longitude)) return all
  return all.sort((a, b) => distance(place, a) - distance(place, b))
}

/**
 * A path of a region. Part by part: as a relative reference, `//host/x` and `/\host/x` would name another origin, and
 * the request would be sent there with the cookies of its client.
 */
function at(region, pathname, search = '') {
  const url = new URL(region.url)
  url.pathname = pathname
  url.search = search
  return url
}

/** Asks a region whose time is over, beside the request; until it says yes it stays away. */
async function probe(region) {
  away.set(region.url, Date.now() + leaveAloneMs)
  try {
    const answer = await fetch(at(region, '/ready'), {
      signal: AbortSignal.timeout(probePatienceMs),
      redirect: 'manual',
    })
    if (answer.status === 200) away.delete(region.url)
  } catch {
    // It stays away.
  }
}

async function send(region, request) {
  const url = new URL(request.url)
  const copy = new Request(at(region, url.pathname, url.search), request)
  for (const [name] of request.headers) if (describesUrl.test(name)) copy.headers.delete(name)
  copy.headers.set('X-Forwarded-Host', url.host)
  copy.headers.set('X-Forwarded-Proto', url.protocol.slice(0, -1))
  if (!safe.has(request.method)) return fetch(copy, { redirect: 'manual' })
  const patience = new AbortController()
  const timer = setTimeout(() => patience.abort(), patienceMs)
  try {
    return await fetch(copy, { redirect: 'manual', signal: patience.signal })
  } finally {
    // The head is there: what follows, a download or a stream of events, may take as long as it likes.
    clearTimeout(timer)
  }
}

function mark(answer, region) {
  // An upgraded connection is its client's; nothing may be added.
  if (answer.status === 101) return answer
  const marked = new Response(answer.body, answer)
  marked.headers.set('X-Fleet-Region', region.name)
  return marked
}

export default {
  async fetch(request, env, ctx) {
    const all = candidates(request.cf, env.REGIONS, env.COUNTRIES ?? {})
    for (const region of all) {
      const until = away.get(region.url)
      if (until !== undefined && until <= Date.now()) ctx.waitUntil(probe(region))
    }
    const well = all.filter(({ url }) => !away.has(url))
    // All failed: perhaps one of them is back.
    const order = well.length > 0 ? well : all
    const tries = safe.has(request.method) ? order : order.slice(0, 1)
    let last
    for (const region of tries) {
      try {
        const answer = await send(region, request)
        if (!isDown(answer.status)) return mark(answer, region)
        last = { answer, region }
      } catch {
        // Not reached, or silent.
      }
      away.set(region.url, Date.now() + leaveAloneMs)
    }
    if (last) return mark(last.answer, last.region)
    return Response.json(
      { statusCode: 502, error: 'Bad Gateway', message: 'no region answers' },
      { status: 502, headers: { 'Retry-After': '10' } },
    )
  },
}
