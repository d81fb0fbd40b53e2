import { getHashes, randomBytes } from 'node:crypto'
import type { CookieOptions, SessionStore } from '@fastify/session'
import type { FastifyRequest } from 'fastify'
import { any, bool, either, fn, int, object, oneOf, type Shape, text } from '../../base/options.ts'
import type { StoredCookie } from './cookie.ts'
import { defaultMaxBytes, type SessionData } from './record.ts'
import type { SessionBackend } from './repository.ts'
import type { Secret, Signer } from './signer.ts'

export interface SessionOptions {
  /**
   * Signs the cookie. Of several secrets the first signs and all verify, so that a new one can be put in front of the old
   * one. Each has at least 32 bytes; outside production a short one in a list only causes a warning if the plugin is
   * registered by itself. @default SESSION_SECRET; outside production the umbrella plugin generates one
   */
  secret?: Secret
  /** Hash algorithm of the signature. @default 'sha256' */
  algorithm?: string
  /** Lifetime of a session after its last visit, 1000 to 31,536,000,000 ms. @default SESSION_TTL, else 86400000 (a day) */
  ttlMs?: number
  /**
   * A visit extends the lifetime only if the last extension was this long ago, 0 to 31,536,000,000 ms, so that reading
   * costs no write. @default a tenth of `ttlMs`
   */
  touchAfterMs?: number
  /** @default SESSION_COOKIE_NAME, else `fleet.sid` */
  cookieName?: string
  /** Prefix of the signed id in the cookie; `s:` reads the cookies of express-session. @default '' */
  cookiePrefix?: string
  /**
   * `maxAge` is in milliseconds; `null` makes a cookie that ends with the browser.
   *
   * @default path /, httpOnly, sameSite lax, secure in production (SESSION_COOKIE_SECURE), maxAge `ttlMs`
   */
  cookie?: Omit<CookieOptions, 'maxAge'> & { maxAge?: number | null }
  /** The built-in store, connect-redis with the fleet's Redis, or a store with its interface. @default 'fleet' */
  store?: 'fleet' | 'connect-redis' | SessionStore
  /** Whether overlapping requests keep each other's changes to different fields; `fleet` only. @default true */
  merge?: boolean
  /**
   * Cache sessions in the memory of this process, so that a session costs no command until it changes. Redis 6 or later
   * announces every change; a missed announcement counts for at most 1 s. `fleet` with Redis only. @default false
   */
  track?: boolean
  /** The field of a session that identifies its user, for `app.sessions`; `fleet` only. @default 'userId' */
  userId?: string
  /**
   * While the store is unavailable: respond 503 with `Retry-After` (`reject`), or continue with an empty session that is
   * not saved (`allow`). @default 'reject'
   */
  onOutage?: 'reject' | 'allow'
  /** Extend the lifetime and send the cookie with every response. @default false */
  rolling?: boolean
  /** Save sessions without data. @default false */
  saveUninitialized?: boolean
  /** Most bytes of the data of one session as JSON, 1 to 16,777,216; a change beyond it gets a 413. @default 65536 */
  maxBytes?: number
  /**
   * Limits for sessions without a login. A session has a login once it is saved with a user (in the field `userId` or
   * `user`), or created by `session.regenerate()`. Beyond the limits a request works as usual, but its new session is not
   * saved. `false`: no limits. @default {}
   */
  anonymous?: AnonymousOptions | false
  /** Generates ids. They must be impossible to guess. @default 24 random bytes */
  idGenerator?: (request: FastifyRequest) => string
}

export interface AnonymousOptions {
  /** New sessions per minute for each client (`clientKey()`) and instance, 1 to 1,000,000. @default 120 */
  perMinute?: number
  /** New sessions per minute for all clients of an instance, 1 to 1,000,000. @default 6000 */
  totalPerMinute?: number
  /** How long the store keeps one after its last visit, 1000 to 31,536,000,000 ms. @default 3600000 (an hour) */
  ttlMs?: number
}

/** What the sessions of one app share: resolved options, and the parts built from them. */
export interface SessionContext {
  readonly backend: SessionBackend
  readonly signer: Signer
  readonly newId: (request: FastifyRequest) => string
  readonly cookieName: string
  readonly cookiePrefix: string
  readonly cookie: StoredCookie
  /** The cookie of a new session. */
  readonly newCookie: StoredCookie
  readonly rolling: boolean
  readonly saveUninitialized: boolean
  readonly ttlMs: number
  readonly touchAfterMs: number
  /** Whether the client may start another anonymous session; `undefined`: no limit. */
  readonly admits?: (request: FastifyRequest) => boolean
  /** Whether a session with this data has a login. */
  readonly isAuthenticated: (data: SessionData) => boolean
  /** Called when a `Secure` cookie is not sent because the client does not use TLS. */
  readonly warnInsecure: () => void
}

/** Options of version 0.1, and what to use instead. */
export const renamed = {
  ttl: 'ttlMs',
  touchAfter: 'touchAfterMs',
  whenDown: "onOutage: 'reject' | 'allow'",
}

export const defaults = {
  algorithm: 'sha256',
  ttlMs: 86_400_000,
  cookieName: 'fleet.sid',
  cookiePrefix: '',
  store: 'fleet',
  merge: true,
  track: false,
  userId: 'userId',
  onOutage: 'reject',
  rolling: false,
  saveUninitialized: false,
  maxBytes: defaultMaxBytes,
  anonymous: { perMinute: 120, totalPerMinute: 6000, ttlMs: 3_600_000 } as Required<AnonymousOptions> | false,
  idGenerator: () => randomBytes(24).toString('base64url'),
  cookie: { path: '/', httpOnly: true, sameSite: 'lax' },
} satisfies SessionOptions

export type ResolvedSessionOptions = Omit<SessionOptions, keyof typeof defaults> &
  Required<Pick<SessionOptions, Exclude<keyof typeof defaults, 'anonymous'>>> &
  Pick<typeof defaults, 'anonymous'>

const has = (...methods: string[]): ((v: unknown) => boolean) => {
  return (v) => typeof v === 'object' && v !== null && methods.every((m) => typeof (v as never)[m] === 'function')
}
const shape = (expects: string, accepts: (v: unknown) => boolean): Shape => ({ expects, accepts }) as Shape
const yearMs = 31_536_000_000
export const shapes = {
  secret: any(),
  algorithm: shape('the name of a hash, e.g. sha256; see crypto.getHashes()', (v) => getHashes().includes(v as string)),
  ttlMs: int(1000, yearMs, 'milliseconds'),
  touchAfterMs: int(0, yearMs, 'milliseconds'),
  cookieName: text,
  cookiePrefix: shape('a string', (v) => typeof v === 'string'),
  cookie: object({
    path: text,
    domain: text,
    httpOnly: bool,
    secure: oneOf<boolean | string>(true, false, 'true', 'auto'),
    sameSite: oneOf<boolean | string>(true, false, 'lax', 'strict', 'none'),
    partitioned: bool,
    priority: oneOf('low', 'medium', 'high'),
    expires: any(),
    maxAge: either(
      shape('null', (v) => v === null),
      int(1, yearMs, 'milliseconds'),
    ),
  }),
  store: either(oneOf('fleet', 'connect-redis'), shape('a session store', has('get', 'set', 'destroy'))),
  merge: bool,
  track: bool,
  userId: text,
  onOutage: oneOf('reject', 'allow'),
  rolling: bool,
  saveUninitialized: bool,
  maxBytes: int(1, 16_777_216, 'bytes'),
  anonymous: either(
    oneOf(false),
    object({
      perMinute: int(1, 1_000_000, 'sessions'),
      totalPerMinute: int(1, 1_000_000, 'sessions'),
      ttlMs: int(1000, yearMs, 'milliseconds'),
    }),
  ),
  idGenerator: fn(),
}
