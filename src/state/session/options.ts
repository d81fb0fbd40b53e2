import { randomBytes } from 'node:crypto'
import type { CookieOptions, SessionStore } from '@fastify/session'
import type { FastifyRequest } from 'fastify'
import { any, bool, either, fn, int, object, oneOf, type Shape, text } from '../../base/options.ts'
import type { Secret } from './secret.ts'
import { defaultMaxBytes } from './text.ts'

export interface SessionOptions {
  /**
   * Signs the cookie; of several, the first signs and all verify, so that a new one can be put in front of the old. At
   * least 32 bytes each; outside production a short one in a list is only warned of, where this plugin is registered by
   * itself. @default SESSION_SECRET, else the umbrella makes one up outside production
   */
  secret?: Secret
  /** Hash of the signature. @default 'sha256' */
  algorithm?: string
  /** Life of a session after its last visit, 1 to 31,536,000 s. @default SESSION_TTL, else 86400 */
  ttl?: number
  /**
   * A visit prolongs the session's life only when the last prolongation is this long ago (seconds), so that reading costs
   * no write. @default a tenth of `ttl`
   */
  touchAfter?: number
  /** @default SESSION_COOKIE_NAME, else `fleet.sid` */
  cookieName?: string
  /** Stands before the signed id; `s:` reads the cookies of express-session. @default '' */
  cookiePrefix?: string
  /**
   * `maxAge` is in milliseconds, and `null` makes a cookie that ends with the browser.
   *
   * @default path /, httpOnly, sameSite lax, secure in production (SESSION_COOKIE_SECURE), maxAge as `ttl` says
   */
  cookie?: Omit<CookieOptions, 'maxAge'> & { maxAge?: number | null }
  /** Where sessions are: our own store, connect-redis over the fleet's Redis, or one with its interface. @default 'fleet' */
  store?: 'fleet' | 'connect-redis' | SessionStore
  /** Whether overlapping requests keep each other's changes to different fields; `fleet` only. @default true */
  merge?: boolean
  /**
   * Keep what was read in this process's memory, so that a session costs no command until it changes. Redis (6 or later)
   * says what has changed; what it cannot say counts for nothing after 1 s. `fleet` in Redis only. @default false
   */
  track?: boolean
  /** The field of a session that says whose it is, for `app.sessions`; `fleet` only. @default 'userId' */
  userId?: string
  /** While the store is down: 503 with `Retry-After`, or go on with an empty session that is not kept. @default 'unavailable' */
  whenDown?: 'unavailable' | 'anonymous'
  /** Prolong the session and send its cookie with every response. @default false */
  rolling?: boolean
  /** Keep sessions that hold nothing. @default false */
  saveUninitialized?: boolean
  /** Most that the data of one session has as JSON, 1 to 16,777,216 bytes; a change beyond it is a 413. @default 65536 */
  maxBytes?: number
  /**
   * Limits for sessions that nobody has logged in to. A session is one until it is saved with a user (the field `userId`
   * says, or `user`), or made by `session.regenerate()`. Beyond the limits a request works as usual, but its new session
   * is not kept. `false`: no difference is made. @default {}
   */
  anonymous?: AnonymousOptions | false
  /** Makes ids; they must be impossible to guess. @default 24 random bytes */
  idGenerator?: (request: FastifyRequest) => string
}

export interface AnonymousOptions {
  /** New sessions for each client (`clientKey()`) and instance in a minute, 1 to 1,000,000. @default 120 */
  perMinute?: number
  /** New sessions for all clients of an instance in a minute, 1 to 1,000,000. @default 6000 */
  totalPerMinute?: number
  /** How long a store keeps one after its last visit, 1000 to 31,536,000,000 ms. @default 3600000 (an hour) */
  ttlMs?: number
}

export const defaults = {
  algorithm: 'sha256',
  ttl: 86_400,
  cookieName: 'fleet.sid',
  cookiePrefix: '',
  store: 'fleet',
  merge: true,
  track: false,
  userId: 'userId',
  whenDown: 'unavailable',
  rolling: false,
  saveUninitialized: false,
  maxBytes: defaultMaxBytes,
  anonymous: { perMinute: 120, totalPerMinute: 6000, ttlMs: 3_600_000 } as Required<AnonymousOptions> | false,
  idGenerator: () => randomBytes(24).toString('base64url'),
  cookie: { path: '/', httpOnly: true, sameSite: 'lax' },
} satisfies SessionOptions

export type Resolved = Omit<SessionOptions, keyof typeof defaults> &
  Required<Pick<SessionOptions, Exclude<keyof typeof defaults, 'anonymous'>>> &
  Pick<typeof defaults, 'anonymous'>

const has = (...methods: string[]): ((v: unknown) => boolean) => {
  return (v) => typeof v === 'object' && v !== null && methods.every((m) => typeof (v as never)[m] === 'function')
}
const made = (expects: string, accepts: (v: unknown) => boolean): Shape => ({ expects, accepts }) as Shape
const year = 31_536_000
export const shapes = {
  secret: any,
  algorithm: text,
  ttl: int(1, year, 'seconds'),
  touchAfter: int(0, year, 'seconds'),
  cookieName: text,
  cookiePrefix: made('a string', (v) => typeof v === 'string'),
  cookie: object({
    path: text,
    domain: text,
    httpOnly: bool,
    secure: oneOf<boolean | string>(true, false, 'true', 'auto'),
    sameSite: oneOf<boolean | string>(true, false, 'lax', 'strict', 'none'),
    partitioned: bool,
    priority: oneOf('low', 'medium', 'high'),
    expires: any,
    maxAge: either(
      made('null', (v) => v === null),
      int(1, year * 1000, 'milliseconds'),
    ),
  }),
  store: either(oneOf('fleet', 'connect-redis'), made('a session store', has('get', 'set', 'destroy'))),
  merge: bool,
  track: bool,
  userId: text,
  whenDown: oneOf('unavailable', 'anonymous'),
  rolling: bool,
  saveUninitialized: bool,
  maxBytes: int(1, 16_777_216, 'bytes'),
  anonymous: either(
    oneOf(false),
    object({
      perMinute: int(1, 1_000_000, 'sessions'),
      totalPerMinute: int(1, 1_000_000, 'sessions'),
      ttlMs: int(1000, year * 1000, 'milliseconds'),
    }),
  ),
  idGenerator: fn,
}
