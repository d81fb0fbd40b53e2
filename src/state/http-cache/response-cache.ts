import { isUtf8 } from 'node:buffer'
import { hash } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { FleetError } from '../../base/errors.ts'
import { clientKey } from '../../instance/client-key.ts'
import { MemoryLimitStore } from '../rate-limit/memory-store.ts'
import {
  bodyOf,
  handlerHeaders,
  isStoredResponse,
  type StoredHeaders,
  type StoredResponse,
} from '../stored-response.ts'
import { internalRequest, sendInternal, targetOf } from './internal-request.ts'
import type { CachedRoute } from './options.ts'

/** A response that may be sent to every client. */
interface CachedResponse extends StoredResponse {
  /** When it was created, Unix time in ms. */
  readonly at: number
}

/** Other applications may write to this Redis. */
const isCachedResponse = (value: unknown): value is CachedResponse =>
  isStoredResponse(value) && Number.isFinite((value as CachedResponse).at)

/** A 5xx response, thrown through the cache so that all waiting requests get it, or a stale response instead. */
class FailedResponse extends Error {
  readonly stored: CachedResponse

  constructor(stored: CachedResponse) {
    super(`the route responded ${stored.status}`)
    this.stored = stored
  }
}

/** Thrown through the cache: the request goes to the handler. */
class Bypassed extends Error {}

/** Maximum of new responses per minute that the requests of one client may store. */
const maxPerClient = 600

const storableStatuses = new Set([200, 203, 204, 301, 308])

export class ResponseCache {
  readonly #app: FastifyInstance
  readonly #stores = new MemoryLimitStore()
  readonly #warned = new Set<string>()

  constructor(app: FastifyInstance) {
    this.#app = app
  }

  /** Runs before the handler: responds from the cache, or returns `undefined` to let the handler respond. */
  async begin(request: FastifyRequest, reply: FastifyReply, route: CachedRoute): Promise<FastifyReply | undefined> {
    const internal = internalRequest(request)
    if (internal) {
      internal.before = reply.getHeaders()
      internal.reached = internal.route === route.id && internal.url === request.originalUrl
      return undefined
    }
    const { authorization, cookie } = request.headers
    const target = targetOf(request, route.vary)
    const isPersonal = authorization !== undefined || (cookie !== undefined && route.cookies === 'bypass')
    if (isPersonal || !target) return bypass(reply)
    let status = 'hit'
    const fetch = (): Promise<CachedResponse | null> => {
      status = 'fwd=miss'
      return this.#fetch(request, route)
    }
    const { ttlMs, tags, staleWhileRevalidateMs, staleIfErrorMs } = route
    const options = { staleWhileRevalidateMs, staleIfErrorMs, tags: typeof tags === 'function' ? tags(request) : tags }
    try {
      const stored = await this.#app.cache.getOrSet(keyOf(route, target), ttlMs, fetch, options)
      const isCached = isCachedResponse(stored)
      // That a response must not be shared is remembered, and the handler responds.
      reply.header('cache-status', `fleet; ${isCached ? status : 'fwd=miss'}`)
      return isCached ? send(request, reply, stored) : undefined
    } catch (error) {
      if (error instanceof FailedResponse) return send(request, reply, error.stored)
      if (error instanceof Bypassed || (error as FleetError).code === 'FLEET_ERR_CACHE_KEY_INVALID')
        return bypass(reply)
      throw error
    }
  }

  /** Runs before a response is sent. A response directly from the handler is for this client only. */
  end(request: FastifyRequest, reply: FastifyReply, route: CachedRoute): void {
    const internal = internalRequest(request)
    if (internal) internal.own = handlerHeaders(reply, internal.before)
    const vary = [...fields(reply.getHeader('vary')), 'authorization', ...route.vary]
    if (route.cookies === 'bypass') vary.push('cookie')
    reply.header('vary', [...new Set(vary)].join(', '))
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'private, no-cache')
  }

  /** @returns `null` if the response must not be shared */
  async #fetch(request: FastifyRequest, route: CachedRoute): Promise<CachedResponse | null> {
    if (!isUnambiguous(request.originalUrl) || !this.#mayStore(request, route)) throw new Bypassed()
    const { response, reached, before, own } = await sendInternal(this.#app, request, route)
    const { statusCode: status, rawPayload: bytes } = response
    if (!reached) return null
    const stored = { status, headers: own, ...encodeBody(bytes), at: Date.now() }
    if (status >= 500) throw new FailedResponse({ ...stored, headers: { ...own, 'cache-control': 'no-store' } })
    if (!storableStatuses.has(status) || response.headers['set-cookie'] || !isShareable(before, own, route)) return null
    return { ...stored, headers: { ...validators(bytes, route), ...own } }
  }

  /** The limit per client comes first, so that one client that makes up URLs cannot use up the limit of the route. */
  #mayStore(request: FastifyRequest, route: CachedRoute): boolean {
    const { id, ttlMs, maxEntries, staleWhileRevalidateMs, staleIfErrorMs } = route
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

/** Whether parsing leaves the URL unchanged, so that the internal request has the same one. */
function isUnambiguous(url: string): boolean {
  const parsed = URL.parse(`http://localhost${url}`)
  return parsed !== null && parsed.pathname + parsed.search === url
}

/** Routes of one URL may differ by a constraint that is neither the host nor a header in `vary`. */
function keyOf({ id }: CachedRoute, target: readonly (string | null)[]): string {
  const key = JSON.stringify([id, ...target])
  return `http:${key.length <= 400 ? key : hash('sha256', key, 'base64url')}`
}

const fields = (header: unknown): string[] =>
  String(header ?? '')
    .split(',')
    .map((field) => field.trim().toLowerCase())
    .filter((field) => field !== '')

/** Whether the handler permits storing (RFC 9111 §3) and the response varies only by headers in the key. */
function isShareable(before: StoredHeaders, own: StoredHeaders, { vary, cookies }: CachedRoute): boolean {
  const known = new Set([...vary, ...fields(before.vary), 'authorization', cookies === 'bypass' && 'cookie'])
  const forbidden = fields(own['cache-control']).some((directive) => /^(?:no-store|no-cache|private)\b/.test(directive))
  return !forbidden && own['content-encoding'] === undefined && fields(own.vary).every((field) => known.has(field))
}

function validators(bytes: Buffer, { maxAge }: CachedRoute): StoredHeaders {
  return {
    etag: `"${hash('sha256', bytes, 'base64url').slice(0, 27)}"`,
    'cache-control': `public, max-age=${maxAge}${maxAge === 0 ? ', must-revalidate' : ''}`,
  }
}

const encodeBody = (bytes: Buffer): Pick<StoredResponse, 'body' | 'encoded'> =>
  isUtf8(bytes) ? { body: bytes.toString() } : { body: bytes.toString('base64'), encoded: true }

function send(request: FastifyRequest, reply: FastifyReply, stored: CachedResponse): FastifyReply {
  const vary = [...fields(reply.getHeader('vary')), ...fields(stored.headers.vary)]
  const age = Math.max(0, Math.floor((Date.now() - stored.at) / 1000))
  reply
    .code(stored.status)
    .headers(stored.headers)
    .headers({ vary: vary.join(', '), age })
  if (stored.status === 200 && isNotModified(request, stored))
    return reply.code(304).removeHeader('content-type').send()
  return reply.send(bodyOf(stored))
}

/** Whether the client already has this response (RFC 9110 §13.1.2, §13.1.3). */
function isNotModified({ headers }: FastifyRequest, stored: CachedResponse): boolean {
  const tags = headers['if-none-match']
  if (tags !== undefined) {
    const tag = opaque(String(stored.headers.etag))
    return tags.trim() === '*' || tags.split(',').some((each) => opaque(each.trim()) === tag)
  }
  const [since, modified] = [headers['if-modified-since'], stored.headers['last-modified']].map((time) =>
    Date.parse(`${time}`),
  )
  return (modified as number) <= (since as number)
}

const opaque = (tag: string): string => tag.replace(/^W\//, '')
