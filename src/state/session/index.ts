import { randomBytes } from 'node:crypto'
import fastifyCookie from '@fastify/cookie'
import type { CookieOptions, SessionStore } from '@fastify/session'
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { any, bool, either, fn, int, object, oneOf, resolveOptions, type Shape, text } from '../../base/options.ts'
import redis, { isOutage, type RedisClient, unavailable } from '../redis.ts'
import { ForeignSessions, outage } from './foreign.ts'
import { sessionDecorators, Unopened } from './held.ts'
import { addHooks, open } from './hooks.ts'
import { run } from './later.ts'
import { type Secret, signerOf } from './secret.ts'
import type { Session } from './session.ts'
import type { Backing, Sessions } from './sessions.ts'
import { FleetStore } from './store.ts'
import type { Terms } from './terms.ts'
import { TrackedSessions } from './tracked.ts'

export type { Sessions, UserSession } from './sessions.ts'
export type { Signer } from './signer.ts'
export { FleetStore, type FleetStoreOptions } from './store.ts'

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
  /** Makes ids; they must be impossible to guess. @default 24 random bytes */
  idGenerator?: (request: FastifyRequest) => string
}

const defaults = {
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
  idGenerator: () => randomBytes(24).toString('base64url'),
  cookie: { path: '/', httpOnly: true, sameSite: 'lax' },
} satisfies SessionOptions

type Resolved = SessionOptions & Required<Pick<SessionOptions, keyof typeof defaults>>

const has = (...methods: string[]): ((v: unknown) => boolean) => {
  return (v) => typeof v === 'object' && v !== null && methods.every((m) => typeof (v as never)[m] === 'function')
}
const made = (expects: string, accepts: (v: unknown) => boolean): Shape => ({ expects, accepts }) as Shape
const year = 31_536_000
const shapes = {
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
  idGenerator: fn,
}

declare module 'fastify' {
  interface Session {
    // What a session holds is up to the app, and an app that declares its fields here gets them checked: a declared
    // field wins over this one. Without it, an app would have to declare a type before it could count visits.
    // biome-ignore lint/suspicious/noExplicitAny: `unknown` would refuse `session.visits + 1`
    [field: string]: any
  }
  interface FastifyInstance {
    /** Sessions by user: `list(userId)`, `destroyAll(userId)`. @throws FLEET_ERR_OPTION_INVALID with another store */
    sessions: Sessions
  }
  interface FastifyContextConfig {
    /** `false`: this route has no session, and a session cookie costs it nothing. */
    session?: boolean
  }
}

interface Opened {
  readonly kind: string
  readonly store: SessionStore
  readonly backing: Backing
  readonly sessions?: Sessions
}

function tracked(app: FastifyInstance, client: RedisClient): TrackedSessions {
  const refused = (reason: string): void =>
    app.log.warn({ reason }, 'session: Redis does not say what changes, so `track` keeps nothing in memory')
  const sessions = new TrackedSessions(client, app.fleet.name, refused)
  app.addHook('onClose', async () => sessions.close())
  return sessions
}

async function openStore(app: FastifyInstance, { store, ttl, userId, merge, track }: Resolved): Promise<Opened> {
  const { redis: client, fleet } = app
  const engine = track && client && store === 'fleet' ? tracked(app, client) : undefined
  const own = store === 'fleet' ? new FleetStore({ client, name: fleet.name, ttl, userId, merge, engine }) : store
  if (own instanceof FleetStore) {
    const { sessions } = own
    return { kind: sessions.kind, store: own, backing: sessions, sessions }
  }
  if (own !== 'connect-redis') return { kind: 'custom', store: own, backing: new ForeignSessions(own, outage) }
  if (!client)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', "`session.store` 'connect-redis' needs Redis; set REDIS_URL")
  const { RedisStore } = await import('connect-redis')
  const plain: SessionStore = new RedisStore({ client, prefix: `${fleet.name}:connect-session:`, ttl })
  return { kind: 'redis', store: plain, backing: new ForeignSessions(plain, unavailable) }
}

const plugin: FastifyPluginAsync<SessionOptions> = async (app, given) => {
  if (!app.hasDecorator('redis')) await app.register(redis)
  if (!app.hasReplyDecorator('setCookie')) await app.register(fastifyCookie)
  const env = readEnv()
  const options = resolveOptions<Resolved>(
    'session',
    shapes,
    defaults,
    {
      ttl: env.SESSION_TTL,
      cookieName: env.SESSION_COOKIE_NAME,
      cookie: { secure: env.SESSION_COOKIE_SECURE ?? env.production },
    },
    given,
  )
  const { secret, ttl, touchAfter = Math.floor(ttl / 10), cookieName, cookiePrefix, whenDown } = options
  const { kind, store, backing, sessions } = await openStore(app, options)
  app.fleet.describe('sessionStore', kind)
  app.fleet.configure('session', { ...options, touchAfter })

  let warned = false
  const terms: Terms = {
    backing,
    signer: await signerOf(app, secret, options.algorithm),
    newId: options.idGenerator,
    cookieName,
    cookiePrefix,
    cookie: { maxAge: options.cookie.expires ? null : ttl * 1000, ...options.cookie },
    rolling: options.rolling,
    saveUninitialized: options.saveUninitialized,
    touchAfterMs: touchAfter * 1000,
    insecure() {
      if (warned) return
      warned = true
      app.log.warn(
        'session: not kept, because its cookie is Secure and the request came without TLS; let the front send ' +
          'X-Forwarded-Proto, or set SESSION_COOKIE_SECURE=auto',
      )
    },
  }
  const goesOn = (error: unknown): boolean => whenDown === 'anonymous' && isOutage(error)

  app.decorateRequest(sessionDecorators.key, null)
  app.decorateRequest('session', sessionDecorators.session as never)
  app.decorateRequest('sessionStore', { getter: () => store })
  app.decorate('sessions', {
    getter() {
      if (sessions) return sessions
      throw new FleetError('FLEET_ERR_OPTION_INVALID', "`app.sessions` needs `session.store` to be 'fleet'")
    },
  })
  app.decorate('decryptSession', (signed: string, request: object, ...rest: unknown[]) => {
    const callback = rest.pop() as (error?: unknown) => void
    const own = { ...terms, cookie: { ...terms.cookie, ...(rest[0] as object) } }
    const set = (opened: Session | Unopened): void => {
      const session = opened instanceof Unopened ? opened.open(request as FastifyRequest) : opened
      Object.assign(request, { session })
      callback()
    }
    run(() => open(own, request as FastifyRequest, signed), set, callback)
  })
  addHooks(app, terms, goesOn)
}

/**
 * `request.session`, kept in Redis: no session is lost with an instance.
 *
 * @throws FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK, FLEET_ERR_OPTION_INVALID
 */
export const session: FastifyPluginAsync<SessionOptions> = fp(plugin, { name: 'fleet-session', fastify: '5.x' })
export default session
