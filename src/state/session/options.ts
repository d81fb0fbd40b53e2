import { getHashes, randomBytes } from 'node:crypto'
import type { SessionStore } from '@fastify/session'
import type { FastifyRequest } from 'fastify'
import {
  any,
  bool,
  either,
  fn,
  int,
  type OptionsOf,
  object,
  oneOf,
  type Resolved,
  type Shape,
  shape,
  text,
} from '../../base/options.ts'
import type { StoredCookie } from './cookie.ts'
import { defaultMaxBytes, type SessionData } from './record.ts'
import type { SessionBackend } from './repository.ts'
import type { Secret, Signer } from './signer.ts'

const has = (...methods: string[]): ((v: unknown) => boolean) => {
  return (v) => typeof v === 'object' && v !== null && methods.every((m) => typeof (v as never)[m] === 'function')
}
const yearMs = 31_536_000_000

const anonymousOptions = {
  /** New sessions per minute for each client (`clientKey()`) and instance. */
  perMinute: int(1, 1_000_000, 'sessions').default(120),
  /** New sessions per minute for all clients of an instance. */
  totalPerMinute: int(1, 1_000_000, 'sessions').default(6000),
  /** How long the store keeps one after its last visit; at most `ttlMs` or `cookie.maxAge`. The cookie is the same. */
  ttlMs: int(1000, yearMs, 'milliseconds').default(3_600_000),
}
export type AnonymousOptions = OptionsOf<typeof anonymousOptions>

const cookieOptions = {
  /** The path of the URLs with which clients send the cookie. */
  path: text.default('/'),
  /** The domain whose hosts get the cookie, else only the host that set it. */
  domain: text,
  /** Hide the cookie from scripts. */
  httpOnly: bool.default(true),
  /** Send the cookie only over TLS; `auto`: if the request came over TLS. @default `SESSION_COOKIE_SECURE`, else `true` in production */
  secure: oneOf<boolean | 'true' | 'auto'>(true, false, 'true', 'auto') as Shape<boolean | 'auto'>,
  /** Whether requests that another site causes have the cookie. */
  sameSite: oneOf<boolean | 'lax' | 'strict' | 'none'>(true, false, 'lax', 'strict', 'none').default('lax'),
  /** Store the cookie separately for each embedding site. */
  partitioned: bool,
  /** Which cookies the browser drops first. */
  priority: oneOf('low', 'medium', 'high'),
  /** When the cookie expires, instead of `maxAge`. */
  expires: any<Date>(),
  /** Lifetime of the cookie; `null`: it ends with the browser. @default `ttlMs` */
  maxAge: either(
    shape<null>('null', (v) => v === null),
    int(1, yearMs, 'milliseconds'),
  ),
}

/** @internal */
export const sessionOptions = {
  /**
   * Signs the cookie. Of several secrets the first signs and all verify, so that a new one can be put in front of the old
   * one. Each has at least 32 bytes; outside production a short one in a list only causes a warning if the plugin is
   * registered by itself. @default `SESSION_SECRET`; outside production the umbrella plugin generates one
   */
  secret: any<Secret>(),
  /** Hash algorithm of the signature. */
  algorithm: shape<string>('the name of a hash, e.g. sha256; see crypto.getHashes()', (v) =>
    getHashes().includes(v as string),
  ).default('sha256'),
  /** Lifetime of a session after its last visit. The environment variable `SESSION_TTL` sets it in seconds. */
  ttlMs: int(1000, yearMs, 'milliseconds').default(86_400_000),
  /**
   * A visit extends the lifetime only if the last extension was this long ago, so that reading costs no write. A session with a
   * shorter lifetime of its own is extended after the same share of that. @default a tenth of `cookie.maxAge`, else of `ttlMs`
   */
  touchAfterMs: int(0, yearMs, 'milliseconds'),
  /** Name of the cookie. */
  cookieName: text.default('fleet.sid').env('SESSION_COOKIE_NAME'),
  /** Prefix of the signed id in the cookie; `s:` reads the cookies of express-session. */
  cookiePrefix: shape<string>('a string', (v) => typeof v === 'string').default(''),
  /** Attributes of the cookie. */
  cookie: object(cookieOptions).default({}),
  /** The built-in store, connect-redis with the fleet's Redis, or a store with its interface. */
  store: either(
    oneOf('fleet', 'connect-redis'),
    shape<SessionStore>('a session store', has('get', 'set', 'destroy')),
  ).default('fleet'),
  /** Whether overlapping requests keep each other's changes to different fields; `fleet` only. */
  merge: bool.default(true),
  /**
   * Cache sessions in the memory of this process, so that a session costs no command until it changes. Redis 6 or later
   * announces every change; a missed announcement counts for at most 1 s. `fleet` with Redis only.
   */
  track: bool.default(false),
  /** The field of a session that identifies its user by a string or a number, for `app.sessions`; `fleet` only. */
  userId: text.default('userId'),
  /**
   * While the store is unavailable: respond 503 with `Retry-After` (`reject`), or continue with an empty session that is
   * not saved (`allow`).
   */
  onOutage: oneOf('reject', 'allow').default('reject'),
  /** Extend the lifetime and send the cookie with every response. */
  rolling: bool.default(false),
  /** Save sessions without data. */
  saveUninitialized: bool.default(false),
  /** Most bytes of the data of one session as JSON; a change beyond it gets a 413. */
  maxBytes: int(1, 16_777_216, 'bytes').default(defaultMaxBytes),
  /**
   * Limits for sessions without a login. A session has a login once it is saved with a user (in the field `userId` or
   * `user`), or created by `session.regenerate()`. Beyond the limits a request works as usual, but its new session is not
   * saved. `false`: no limits.
   */
  anonymous: either(oneOf(false), object(anonymousOptions)).default({}),
  /** Generates ids. They must be impossible to guess. @default 24 random bytes */
  idGenerator: fn<(request: FastifyRequest) => string>().default(() => randomBytes(24).toString('base64url')),
}
export type SessionOptions = OptionsOf<typeof sessionOptions>
export type ResolvedSessionOptions = Resolved<typeof sessionOptions>

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

/** @internal */
export const routeSessionOptions = {
  /** As `session.onOutage`, for this route. @default `session.onOutage` */
  onOutage: oneOf('reject', 'allow'),
}
export type RouteSession = OptionsOf<typeof routeSessionOptions>
export const routeSession = either(bool, object(routeSessionOptions))
