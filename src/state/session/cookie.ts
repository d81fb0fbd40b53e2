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
  /** `User-Agent` of the client that was there when the session was last given its whole life. */
  agent?: string
}

/** Milliseconds since 1970. */
export const timeOf = (date: Date | string | number): number =>
  typeof date === 'number' ? date : new Date(date).getTime()

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
    this._expires = null
    this.touch()
  }

  toJSON(): StoredCookie {
    return { expires: this._expires, originalMaxAge: this.originalMaxAge, ...attributes(this) }
  }
}

/** The attributes of a cookie that say nothing of time. */
export function attributes(cookie: SessionCookie): Omit<StoredCookie, 'expires' | 'originalMaxAge'> {
  const { path, httpOnly, secure, sameSite, domain, partitioned } = cookie
  return { path, httpOnly, secure, sameSite, domain, partitioned } as Omit<StoredCookie, 'expires' | 'originalMaxAge'>
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
