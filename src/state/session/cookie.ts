import type { CookieOptions } from '@fastify/session'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { cookiePairs } from '../../base/cookies.ts'
import { cookieOf, sendCookie } from '../../instance/compat/cookies.ts'

/** A session's cookie as it is stored: at least when it expires, and its lifetime after each visit. */
export interface StoredCookie extends Omit<CookieOptions, 'maxAge' | 'expires'> {
  /** Lifetime in ms; `null`: until the browser closes. */
  originalMaxAge?: number | null
  maxAge?: number | null
  /** A date in any form that `new Date()` accepts. */
  expires?: Date | string | number | null
  /** When the lifetime of a session without `expires` was last extended, in ms since 1970. */
  at?: number
  /** Lifetime in the store while the session is anonymous, in ms; absent once a user has logged in. */
  anonymous?: number
  /** `User-Agent` of the client when the lifetime was last extended. */
  agent?: string
}

/** Milliseconds since 1970. */
export const timeOf = (date: Date | string | number): number =>
  typeof date === 'number' ? date : new Date(date).getTime()

/** How long a store keeps the session, in ms. The cookie of an anonymous session may live longer than that. */
export function lifetimeOf({ expires, anonymous }: StoredCookie, ttlMs: number): number {
  const leftMs = expires ? timeOf(expires) - Date.now() : ttlMs
  return Math.max(1, Math.round(anonymous === undefined ? leftMs : Math.min(leftMs, anonymous)))
}

/**
 * Whether a visit extends the lifetime, because the last extension was `touchAfterMs` ago. For a shorter lifetime, of an
 * anonymous session or of its own cookie, the same fraction counts.
 */
export function isTouchDue(cookie: StoredCookie, options: { ttlMs: number; touchAfterMs: number }): boolean {
  const { at, expires, originalMaxAge, anonymous } = cookie
  const { ttlMs, touchAfterMs } = options
  const since = at ?? (expires && originalMaxAge ? timeOf(expires) - originalMaxAge : Number.NaN)
  const lifeMs = Math.min(ttlMs, anonymous ?? ttlMs, originalMaxAge || ttlMs)
  const afterMs = lifeMs === ttlMs ? touchAfterMs : (touchAfterMs / ttlMs) * lifeMs
  return Date.now() - since >= afterMs
}

/** `session.cookie`, with the API of @fastify/session and express-session. */
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
  /** Value of {@link expires}. @fastify/session and express-session use this name too. */
  _expires: Date | null

  constructor(given: StoredCookie, https: boolean) {
    this.path = given.path || '/'
    this.httpOnly = given.httpOnly ?? true
    const { secure = null } = given
    // Options from a file may be strings. @fastify/session takes any non-empty string for true.
    this.secure = typeof secure === 'string' && secure !== 'auto' ? true : secure
    this.sameSite = given.sameSite || null
    this.domain = given.domain || null
    this.partitioned = given.partitioned
    if (this.secure === 'auto') {
      this.secure = https
      // Browsers reject SameSite=None without Secure.
      if (!https) this.sameSite = 'lax'
    }
    this.originalMaxAge = given.originalMaxAge || given.maxAge || null
    this.anonymous = given.anonymous
    this._expires = given.expires ? new Date(given.expires) : null
    if (Number.isNaN(this._expires?.getTime())) this._expires = null
    const restored = given.originalMaxAge !== undefined && this._expires !== null
    if (!restored) this.touch()
  }

  /** Extends the lifetime: it starts now. */
  touch(): void {
    if (this.originalMaxAge) this._expires = new Date(Date.now() + this.originalMaxAge)
  }

  get expires(): Date | null {
    return this._expires
  }

  set expires(date: Date | null) {
    this._expires = date
  }

  /** Remaining lifetime in ms; `null`: until the browser closes. */
  get maxAge(): number | null {
    return this._expires instanceof Date ? this._expires.getTime() - Date.now() : null
  }

  set maxAge(ms: number | null) {
    this.originalMaxAge = ms
    // A lifetime set by a handler applies to anonymous sessions too.
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

/** The attributes of a cookie that do not concern its lifetime. */
function attributes(cookie: SessionCookie): Omit<StoredCookie, 'expires' | 'originalMaxAge'> {
  const { path, httpOnly, secure, sameSite, domain, partitioned } = cookie
  return { path, httpOnly, secure, sameSite, domain, partitioned } as Omit<StoredCookie, 'expires' | 'originalMaxAge'>
}

/** Characters of a `User-Agent` that are stored. */
const maxAgentLength = 200

/**
 * The part of a cookie that must be stored with its session.
 *
 * @param defaults the cookie of a session without options of its own
 */
export function toStored(cookie: SessionCookie, defaults: SessionCookie, agent?: string): StoredCookie {
  const common = attributes(defaults)
  const own = Object.entries(attributes(cookie)).filter(
    ([name, value]) => value !== common[name as keyof typeof common],
  )
  return {
    expires: cookie.expires?.getTime() ?? null,
    originalMaxAge: cookie.originalMaxAge,
    ...((!cookie.expires || !cookie.originalMaxAge) && { at: Date.now() }),
    ...(cookie.anonymous !== undefined && { anonymous: cookie.anonymous }),
    ...(agent && { agent: agent.slice(0, maxAgentLength) }),
    ...Object.fromEntries(own),
  }
}

/** Whether a cookie with this path applies to the URL of a request (RFC 6265, 5.1.4). */
export function inPath(request: FastifyRequest, path: string): boolean {
  if (path === '/') return true
  const [url = ''] = request.raw.url?.split('?', 1) ?? []
  return url === path || url.startsWith(path.endsWith('/') ? path : `${path}/`)
}

/** The values of all cookies of a name, decoded. */
export const cookiesOf = ({ headers, server }: FastifyRequest, name: string): string[] =>
  cookiePairs(headers.cookie, name).flatMap((pair) => server.parseCookie(pair)[name] || [])

/** Tells the client to delete its cookie, if it sent one. */
export function clearCookie(
  { cookieName, cookie }: { readonly cookieName: string; readonly cookie: StoredCookie },
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  if (cookieOf(request, cookieName) !== undefined)
    sendCookie(reply, cookieName, '', {
      domain: cookie.domain,
      path: cookie.path ?? '/',
      expires: new Date(0),
      maxAge: 0,
    })
}
