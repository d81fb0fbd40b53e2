import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { FleetError } from '../../base/errors.ts'
import {
  either,
  fn,
  headerName,
  int,
  list,
  oneOf,
  resolveOptions,
  type Shapes,
  text as string,
} from '../../base/options.ts'
import { clientKey } from '../../instance/client-key.ts'
import cache from '../cache/index.ts'
import { MemoryLimits } from '../rate-limit/limits.ts'
import {
  type StoredResponse as Answer,
  bytesOf,
  type StoredHeaders as Headers,
  isStoredResponse as isAnswer,
  ownHeaders,
} from '../stored-response.ts'
import { giveScheme, load, loadOf, targetOf } from './load.ts'

/**
 * How a GET route is cached. Its response must depend on nothing but scheme, host, URL, the headers in `vary`, and stored
 * data: the handler sees no other header, and not the client's address.
 */
export interface RouteCache {
  /** How long a response is fresh, 1 ms to a year. */
  ttlMs: number
  /** Request headers that responses differ by, e.g. `accept-language`. @default none */
  vary?: string[]
  /** Names under which `app.cache.deleteByTag()` finds the responses. @default none */
  tags?: string[] | ((request: FastifyRequest) => string[])
  /** Serve a stale response for this long while one request fetches a fresh one (RFC 5861), ms. @default 0 */
  staleWhileRevalidateMs?: number
  /** Serve a stale response for this long instead of a 5xx (RFC 5861), ms. @default 0 */
  staleIfErrorMs?: number
  /** How long clients and proxies may use a response unasked, s; what is deleted here, they still have. @default 0 */
  maxAge?: number
  /** Requests with cookies go by the cache, or are taken as if they had none. @default 'bypass' */
  cookies?: 'bypass' | 'ignore'
  /**
   * Most responses that one instance stores for this route within their life, 1 to 1,000,000,000; requests beyond it go to
   * the handler. So made-up URLs fill neither memory nor Redis. @default 10000
   */
  maxEntries?: number
}

const defaults = {
  vary: [] as string[],
  tags: [] as string[],
  staleWhileRevalidateMs: 0,
  staleIfErrorMs: 0,
  maxAge: 0,
  cookies: 'bypass',
  maxEntries: 10_000,
} satisfies Omit<RouteCache, 'ttlMs'>

type Route = Readonly<Required<RouteCache>> & {
  /** Path and constraints: one for GET and HEAD. */
  readonly id: string
}

const year = 31_536_000
const shapes: Shapes = {
  ttlMs: int(1, year * 1000, 'milliseconds'),
  vary: list(headerName),
  tags: either(list(string), fn),
  staleWhileRevalidateMs: int(0, year * 1000, 'milliseconds'),
  staleIfErrorMs: int(0, year * 1000, 'milliseconds'),
  maxAge: int(0, year, 'seconds'),
  cookies: oneOf('bypass', 'ignore'),
  maxEntries: int(1, 1_000_000_000),
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Cache the responses of this GET route. */
    cache?: RouteCache | false
  }
}

/** A response for everybody. */
interface Stored extends Answer {
  /** When it was made, ms since 1970. */
  readonly at: number
}

/** Somebody else may have written what Redis has. */
const isStored = (value: unknown): value is Stored => isAnswer(value) && Number.isFinite((value as Stored).at)

/** Thrown through the cache, so that everybody who waits gets this answer, or a stale one instead. */
class Failed extends Error {
  readonly stored: Stored

  constructor(stored: Stored) {
    super(`the route answered ${stored.status}`)
    this.stored = stored
  }
}

/** Thrown through the cache: the handler is to answer this request itself. */
class Bypassed extends Error {}

/** Most new responses that the requests of one client may store in a minute. */
const maxPerClient = 600

const storable = new Set([200, 203, 204, 301, 308])

class HttpCache {
  readonly #app: FastifyInstance
  readonly #stores = new MemoryLimits()
  readonly #warned = new Set<string>()

  constructor(app: FastifyInstance) {
    this.#app = app
  }

  /** Answers from the cache; a request that must be answered by the handler itself goes on. */
  async begin(request: FastifyRequest, reply: FastifyReply, route: Route): Promise<FastifyReply | undefined> {
    const load = loadOf(request)
    if (load) {
      load.before = reply.getHeaders()
      load.reached = load.route === route.id && load.url === request.originalUrl
      return undefined
    }
    const { authorization, cookie } = request.headers
    const target = targetOf(request, route.vary)
    const isPersonal = authorization !== undefined || (cookie !== undefined && route.cookies === 'bypass')
    if (isPersonal || !target) return bypass(reply)
    let status = 'hit'
    const fetch = (): Promise<Stored | null> => {
      status = 'fwd=miss'
      return this.#fetch(request, route)
    }
    const { ttlMs, tags, staleWhileRevalidateMs, staleIfErrorMs } = route
    const options = { staleWhileRevalidateMs, staleIfErrorMs, tags: typeof tags === 'function' ? tags(request) : tags }
    try {
      const stored = await this.#app.cache.getOrSet(keyOf(target), ttlMs, fetch, options)
      reply.header('cache-status', `fleet; ${status}`)
      return isStored(stored) ? send(request, reply, stored) : undefined
    } catch (error) {
      if (error instanceof Failed) return send(request, reply, error.stored)
      if (error instanceof Bypassed || (error as FleetError).code === 'FLEET_ERR_CACHE_KEY_INVALID')
        return bypass(reply)
      throw error
    }
  }

  /** The last thing before a response is sent: what the handler answered itself is for this client alone. */
  end(request: FastifyRequest, reply: FastifyReply, route: Route): void {
    const load = loadOf(request)
    if (load) load.own = ownHeaders(reply, load.before)
    const vary = [...fields(reply.getHeader('vary')), 'authorization', ...route.vary]
    if (route.cookies === 'bypass') vary.push('cookie')
    reply.header('vary', [...new Set(vary)].join(', '))
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'private, no-cache')
  }

  /** @returns `null` when the response is not for others */
  async #fetch(request: FastifyRequest, route: Route): Promise<Stored | null> {
    if (!isUnambiguous(request.originalUrl) || !this.#mayStore(request, route)) throw new Bypassed()
    const { response, reached, before, own } = await load(this.#app, request, route)
    const { statusCode: status, rawPayload: bytes } = response
    if (!reached) return null
    const stored = { status, headers: own, ...text(bytes), at: Date.now() }
    if (status >= 500) throw new Failed({ ...stored, headers: { ...own, 'cache-control': 'no-store' } })
    if (!storable.has(status) || response.headers['set-cookie'] || !isForOthers(before, own, route)) return null
    return { ...stored, headers: { ...validators(bytes, route), ...own } }
  }

  /** Who makes up URLs, hosts or headers of the key uses up its own part before that of the route. */
  #mayStore(
    request: FastifyRequest,
    { id, ttlMs, maxEntries, staleWhileRevalidateMs, staleIfErrorMs }: Route,
  ): boolean {
    if (this.#stores.take(`client ${clientKey(request)}`, 60_000, maxPerClient, true).count > maxPerClient) return false
    const lifeMs = ttlMs + Math.max(staleWhileRevalidateMs, staleIfErrorMs)
    if (this.#stores.take(`route ${id}`, lifeMs, maxEntries, true).count <= maxEntries) return true
    if (!this.#warned.has(id))
      this.#app.log.warn(
        `cache: ${id} has more than ${maxEntries} responses; raise \`config.cache.maxEntries\` or cache less`,
      )
    this.#warned.add(id)
    return false
  }
}

function bypass(reply: FastifyReply): undefined {
  reply.header('cache-status', 'fleet; fwd=bypass')
}

/** Whether the request that the cache makes has the very same URL. */
function isUnambiguous(url: string): boolean {
  const parsed = URL.parse(`http://localhost${url}`)
  return parsed !== null && parsed.pathname + parsed.search === url
}

function keyOf(target: readonly (string | null)[]): string {
  const key = JSON.stringify(target)
  return `http:${key.length <= 400 ? key : createHash('sha256').update(key).digest('base64url')}`
}

const fields = (header: unknown): string[] =>
  String(header ?? '')
    .split(',')
    .map((field) => field.trim().toLowerCase())
    .filter((field) => field !== '')

/** Whether the handler allows it (RFC 9111 §3), and says that its response differs by nothing but what the key holds. */
function isForOthers(before: Headers, own: Headers, { vary, cookies }: Route): boolean {
  const known = new Set([...vary, ...fields(before.vary), 'authorization', cookies === 'bypass' && 'cookie'])
  const forbidden = fields(own['cache-control']).some((directive) => /^(?:no-store|no-cache|private)\b/.test(directive))
  return !forbidden && own['content-encoding'] === undefined && fields(own.vary).every((field) => known.has(field))
}

function validators(bytes: Buffer, { maxAge }: Route): Headers {
  return {
    etag: `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 27)}"`,
    'cache-control': `public, max-age=${maxAge}${maxAge === 0 ? ', must-revalidate' : ''}`,
  }
}

const text = (bytes: Buffer): Pick<Answer, 'body' | 'encoded'> =>
  isUtf8(bytes) ? { body: bytes.toString() } : { body: bytes.toString('base64'), encoded: true }

function send(request: FastifyRequest, reply: FastifyReply, stored: Stored): FastifyReply {
  const vary = [...fields(reply.getHeader('vary')), ...fields(stored.headers.vary)]
  const age = Math.max(0, Math.floor((Date.now() - stored.at) / 1000))
  reply
    .code(stored.status)
    .headers(stored.headers)
    .headers({ vary: vary.join(', '), age })
  if (stored.status === 200 && isKnown(request, stored)) return reply.code(304).removeHeader('content-type').send()
  return reply.send(bytesOf(stored))
}

/** Whether the client has this response already (RFC 9110 §13.1.2, §13.1.3). */
function isKnown({ headers }: FastifyRequest, stored: Stored): boolean {
  const tags = headers['if-none-match']
  if (tags !== undefined) {
    const tag = opaque(String(stored.headers.etag))
    return tags.trim() === '*' || tags.split(',').some((each) => opaque(each.trim()) === tag)
  }
  const [since, modified] = [headers['if-modified-since'], stored.headers['last-modified']].map((t) =>
    Date.parse(`${t}`),
  )
  return (modified as number) <= (since as number)
}

const opaque = (tag: string): string => tag.replace(/^W\//, '')

const plugin: FastifyPluginAsync = async (app) => {
  if (!app.hasDecorator('cache')) await app.register(cache)
  const responses = new HttpCache(app)
  app.addHook('onRequest', (request, _reply, done) => {
    giveScheme(request)
    done()
  })
  app.addHook('onRoute', (route: RouteOptions) => {
    if (!route.config?.cache) return
    const options = resolveOptions<Route>('cache', shapes, defaults, route.config.cache)
    if (!options.ttlMs || ![route.method].flat().every((method) => method === 'GET' || method === 'HEAD'))
      throw new FleetError(
        'FLEET_ERR_OPTION_INVALID',
        `\`config.cache\` of ${route.method} ${route.url} needs a \`ttlMs\`, and a route that is for GET and HEAD alone`,
      )
    const constraints = Object.entries(route.constraints ?? {}).map(([name, value]) => `${name}=${value}`)
    // Routes of one path can differ by `Accept-Version`.
    const versioned = route.constraints?.version === undefined ? [] : ['accept-version']
    const vary = [...new Set([...options.vary.map((name) => name.toLowerCase()), ...versioned])]
    const own = { ...options, vary, id: [route.url, ...constraints].join(' ') }
    // Last, behind whatever decides that this client may have the response.
    route.preHandler = [
      route.preHandler ?? [],
      (request: FastifyRequest, reply: FastifyReply) => responses.begin(request, reply, own),
    ].flat()
    // Last, when other hooks have added what would forbid to keep it.
    const end = async (request: FastifyRequest, reply: FastifyReply): Promise<void> =>
      responses.end(request, reply, own)
    route.onSend = [route.onSend ?? [], end].flat()
  })
}

/**
 * Caches responses of routes that say `config: { cache: { ttlMs, … } }` in `app.cache`, with `ETag`, `304`, `Age`, `Vary`
 * and `Cache-Control` (RFC 9111), and says by `Cache-Status` (RFC 9211) what it did. One request per response in the
 * whole fleet reaches the handler, and it reaches it without any header that others' requests may not share.
 *
 * Never kept: responses to requests with `Authorization` or cookies, those that set a cookie, that say `no-store`,
 * `no-cache` or `private`, or `Vary` by more than the route's `vary`; nor any status but 200, 203, 204, 301 and 308.
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN when such a route is added
 */
export const httpCache: FastifyPluginAsync = fp(plugin, { name: 'fleet-http-cache', fastify: '5.x' })
export default httpCache
