import { isUtf8 } from 'node:buffer'
import { createHash, randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { FleetError } from '../base/errors.ts'
import { either, fn, int, list, oneOf, resolveOptions, type Shapes, text as string } from '../base/options.ts'
import { type Answer, bytesOf, type Headers, ownHeaders } from './answer.ts'
import cache from './cache/index.ts'

/** How a GET route is cached. Its response must depend on nothing but the URL, the headers in `vary`, and stored data. */
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
}

const defaults = {
  vary: [] as string[],
  tags: [] as string[],
  staleWhileRevalidateMs: 0,
  staleIfErrorMs: 0,
  maxAge: 0,
  cookies: 'bypass',
} satisfies Omit<RouteCache, 'ttlMs'>

type Route = Readonly<Required<RouteCache>>

const year = 31_536_000
const shapes: Shapes = {
  ttlMs: int(1, year * 1000, 'milliseconds'),
  vary: list(string),
  tags: either(list(string), fn),
  staleWhileRevalidateMs: int(0, year * 1000, 'milliseconds'),
  staleIfErrorMs: int(0, year * 1000, 'milliseconds'),
  maxAge: int(0, year, 'seconds'),
  cookies: oneOf('bypass', 'ignore'),
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

/** What is learnt of the response to a request that is made for the cache, and not for a client. */
interface Load {
  /** Pattern of the route that the request was for. */
  readonly url: string | undefined
  before: Headers
  /** Undefined until the route has made its response. */
  own: Headers | undefined
}

/** Thrown through the cache, so that everybody who waits gets this answer, or a stale one instead. */
class Failed extends Error {
  readonly stored: Stored

  constructor(stored: Stored) {
    super(`the route answered ${stored.status}`)
    this.stored = stored
  }
}

const loadHeader = 'x-fleet-cache-load'
/** Where the request comes from and what it was sent to; the key holds what follows from them. */
const forwarded = ['host', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'forwarded', 'via']
const storable = new Set([200, 203, 204, 301, 308])

class HttpCache {
  readonly #app: FastifyInstance
  readonly #loads = new Map<string, Load>()

  constructor(app: FastifyInstance) {
    this.#app = app
  }

  /** Answers from the cache; a request that must be answered by the handler itself goes on. */
  async begin(request: FastifyRequest, reply: FastifyReply, route: Route): Promise<FastifyReply | undefined> {
    const load = this.#load(request)
    if (load) {
      load.before = reply.getHeaders()
      return undefined
    }
    const { authorization, cookie } = request.headers
    if (authorization !== undefined || (cookie !== undefined && route.cookies === 'bypass')) {
      reply.header('cache-status', 'fleet; fwd=bypass')
      return undefined
    }
    let status = 'hit'
    const fetch = (): Promise<Stored | null> => {
      status = 'fwd=miss'
      return this.#fetch(request, route)
    }
    const { ttlMs, tags, staleWhileRevalidateMs, staleIfErrorMs } = route
    const options = { staleWhileRevalidateMs, staleIfErrorMs, tags: typeof tags === 'function' ? tags(request) : tags }
    try {
      const stored = await this.#app.cache.getOrSet(keyOf(request, route), ttlMs, fetch, options)
      reply.header('cache-status', `fleet; ${status}`)
      return stored ? send(request, reply, stored) : undefined
    } catch (error) {
      if (error instanceof Failed) return send(request, reply, error.stored)
      throw error
    }
  }

  /** The last thing before a response is sent: what the handler answered itself is for this client alone. */
  end(request: FastifyRequest, reply: FastifyReply, route: Route): void {
    const load = this.#load(request)
    if (load && load.url === request.routeOptions.url) load.own = ownHeaders(reply, load.before)
    const vary = [...fields(reply.getHeader('vary')), 'authorization', ...route.vary]
    if (route.cookies === 'bypass') vary.push('cookie')
    reply.header('vary', [...new Set(vary)].join(', '))
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'private, no-cache')
  }

  #load(request: FastifyRequest): Load | undefined {
    const id = request.headers[loadHeader]
    return id === undefined ? undefined : this.#loads.get(id as string)
  }

  /**
   * Asks the route itself, as a client would who sends nothing but what the key is made of: no other header can find its
   * way into a response that others get. @returns `null` when its response is not for others
   */
  async #fetch(request: FastifyRequest, route: Route): Promise<Stored | null> {
    if (!isAlikeToAll(request.originalUrl)) return null
    const id = randomUUID()
    const load: Load = { url: request.routeOptions.url, before: {}, own: undefined }
    const sent = [...forwarded, ...route.vary].map((name) => [name, request.headers[name]])
    const headers = Object.fromEntries(sent.filter(([, value]) => value !== undefined))
    this.#loads.set(id, load)
    try {
      const response = await this.#app.inject({
        url: request.originalUrl,
        headers: { ...headers, [loadHeader]: id },
        // Left out it would be loopback, which some routes trust.
        remoteAddress: request.socket.remoteAddress ?? '::',
      })
      const { statusCode: status, rawPayload: bytes } = response
      const { before, own } = load
      // Another route made this response.
      if (own === undefined) return null
      const stored = { status, headers: own, ...text(bytes), at: Date.now() }
      if (status >= 500) throw new Failed({ ...stored, headers: { ...own, 'cache-control': 'no-store' } })
      if (!storable.has(status) || response.headers['set-cookie'] || !isForOthers(before, own, route)) return null
      return { ...stored, headers: { ...validators(bytes, route), ...own } }
    } finally {
      this.#loads.delete(id)
    }
  }
}

/**
 * Whether URL parsers leave this target as it is. `inject()` parses it, and the router does not: `/cached/../private` would
 * be looked up for one route, and answered by another.
 */
function isAlikeToAll(target: string): boolean {
  if (!target.startsWith('/')) return false
  const url = URL.parse(`http://localhost${target}`)
  return url !== null && url.pathname + url.search === target
}

/** The target URI (RFC 9111 §2) and the headers that responses differ by. */
function keyOf(request: FastifyRequest, { vary }: Route): string {
  const { protocol, host, originalUrl, headers } = request
  const key = JSON.stringify([protocol, host, originalUrl, ...vary.map((name) => headers[name] ?? null)])
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
  app.addHook('onRoute', (route: RouteOptions) => {
    if (!route.config?.cache) return
    const options = resolveOptions<Route>('cache', shapes, defaults, route.config.cache)
    if (!options.ttlMs || ![route.method].flat().every((method) => method === 'GET' || method === 'HEAD'))
      throw new FleetError(
        'FLEET_ERR_OPTION_INVALID',
        `\`config.cache\` of ${route.method} ${route.url} needs a \`ttlMs\`, and a route that is for GET and HEAD alone`,
      )
    const own = { ...options, vary: options.vary.map((name) => name.toLowerCase()) }
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
