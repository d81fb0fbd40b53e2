import type { CookieOptions } from '@fastify/session'
import type { FastifyRequest } from 'fastify'

/** What a store keeps of a session's cookie: at least when it ends, and how long it lives between two visits. */
export interface StoredCookie extends Omit<CookieOptions, 'maxAge' | 'expires'> {
  /** Milliseconds; `null`: until the browser closes. */
  originalMaxAge?: number | null
  maxAge?: number | null
  /** A date in any form `new Date()` takes. */
  expires?: Date | string | number | null
  /** When a session without `expires` was last given its whole life, ms since 1970. */
  at?: number
  /** How long a store keeps the session until somebody logs in, ms; one with a user has no such member. */
  anonymous?: number
  /** `User-Agent` of the client that was there when the session was last given its whole life. */
  agent?: string
}

/** Milliseconds since 1970. */
export const timeOf = (date: Date | string | number): number =>
  typeof date === 'number' ? date : new Date(date).getTime()

/** How long a store keeps a session with this cookie, ms. The client may keep the cookie of an anonymous one for longer. */
export function lifeOf({ expires, anonymous }: StoredCookie, ttlMs: number): number {
  const left = expires ? timeOf(expires) - Date.now() : ttlMs
  return Math.max(1, Math.round(anonymous === undefined ? left : Math.min(left, anonymous)))
}

/** Whether the last prolongation of a session's life is at least this long ago. */
export function isDue({ at, expires, originalMaxAge }: StoredCookie, touchAfterMs: number): boolean {
  const since = at ?? (expires && originalMaxAge ? timeOf(expires) - originalMaxAge : Number.NaN)
  return Date.now() - since >= touchAfterMs
}

/** `Set-Cookie` for one session, as @fastify/session and express-session show it to handlers. */
export class SessionCookie {
  path: string
  httpOnly: boolean
  secure: boolean | 'auto' | null
  sameSite: CookieOptions['sameSite'] | null
  domain: string | null
  partitioned: boolean | undefined
  originalMaxAge: number | null
  /** See {@link StoredCookie.anonymous}. */
  anonymous: number | undefined
  /** Behind {@link expires}; under this name in the other two, too. */
  _expires: Date | null

  constructor(given: StoredCookie, https: boolean) {
    this.path = given.path || '/'
    this.httpOnly = given.httpOnly ?? true
    const { secure = null } = given
    // Options that come as text, say from a file: @fastify/session takes any for true.
    this.secure = typeof secure === 'string' && secure !== 'auto' ? true : secure
    this.sameSite = given.sameSite || null
    this.domain = given.domain || null
    this.partitioned = given.partitioned
    if (this.secure === 'auto') {
      this.secure = https
      // Browsers refuse SameSite=None without Secure.
      if (!https) this.sameSite = 'lax'
    }
    this.originalMaxAge = given.originalMaxAge || given.maxAge || null
    this.anonymous = given.anonymous
    this._expires = given.expires ? new Date(given.expires) : null
    if (Number.isNaN(this._expires?.getTime())) this._expires = null
    const restored = given.originalMaxAge !== undefined && this._expires !== null
    if (!restored) this.touch()
  }

  /** The session's life starts anew. */
  touch(): void {
    if (this.originalMaxAge) this._expires = new Date(Date.now() + this.originalMaxAge)
  }

  get expires(): Date | null {
    return this._expires
  }

  set expires(date: Date | null) {
    this._expires = date
  }

  /** Milliseconds left; `null`: until the browser closes. */
  get maxAge(): number | null {
    return this._expires instanceof Date ? this._expires.getTime() - Date.now() : null
  }

  set maxAge(ms: number | null) {
    this.originalMaxAge = ms
    // What the handler says of the life of its session counts, for an anonymous one too.
    if (ms && this.anonymous !== undefined) this.anonymous = ms
    this._expires = null
    this.touch()
  }

  toJSON(): StoredCookie {
    const { anonymous } = this
    const time = { expires: this._expires, originalMaxAge: this.originalMaxAge }
    return { ...time, ...(anonymous !== undefined && { anonymous }), ...attributes(this) }
  }
}

/** The attributes of a cookie that say nothing of time. */
function attributes(cookie: SessionCookie): Omit<StoredCookie, 'expires' | 'originalMaxAge'> {
  const { path, httpOnly, secure, sameSite, domain, partitioned } = cookie
  return { path, httpOnly, secure, sameSite, domain, partitioned } as Omit<StoredCookie, 'expires' | 'originalMaxAge'>
}

/** So many characters of a `User-Agent` tell a device from another. */
const maxAgent = 200

/** Of a session's cookie, what another request could not know. @param usual the cookie of a session without options of its own */
export function stored(cookie: SessionCookie, usual: SessionCookie, agent?: string): StoredCookie {
  const others = attributes(usual)
  const own = Object.entries(attributes(cookie)).filter(
    ([name, value]) => value !== others[name as keyof typeof others],
  )
  return {
    expires: cookie.expires?.getTime() ?? null,
    originalMaxAge: cookie.originalMaxAge,
    ...((!cookie.expires || !cookie.originalMaxAge) && { at: Date.now() }),
    ...(cookie.anonymous !== undefined && { anonymous: cookie.anonymous }),
    ...(agent && { agent: agent.slice(0, maxAgent) }),
    ...Object.fromEntries(own),
  }
}

/**
 * Whether the client came over TLS. `X-Forwarded-Proto` counts whoever sent it: a client that lies gets a cookie of its
 * own that it cannot use.
 */
export function isHttps(request: Partial<FastifyRequest>): boolean {
  if (request.protocol === 'https') return true
  const forwarded = request.headers?.['x-forwarded-proto']
  return typeof forwarded === 'string' && forwarded.split(',', 1)[0]?.trim() === 'https'
}

/** RFC 6265, 5.1.4: whether a cookie of this path belongs to this URL. */
export function inPath(request: FastifyRequest, path: string): boolean {
  if (path === '/') return true
  const [url = ''] = request.raw.url?.split('?', 1) ?? []
  return url === path || url.startsWith(path.endsWith('/') ? path : `${path}/`)
}

/** More cookies of one name are not looked at. */
const maxCookies = 4

/**
 * Every cookie of a name. A browser sends more than one where cookies of several paths or domains match, and the first one
 * need not be ours (RFC 6265, 5.4).
 */
export function cookiesOf({ headers, server }: FastifyRequest, name: string): string[] {
  const found: string[] = []
  for (const pair of (headers.cookie ?? '').split(';')) {
    if (found.length === maxCookies) break
    if (pair.slice(0, pair.indexOf('=')).trim() !== name) continue
    const value = server.parseCookie(pair)[name]
    if (value) found.push(value)
  }
  return found
}
