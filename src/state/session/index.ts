import fastifyCookie from '@fastify/cookie'
import type { SessionStore } from '@fastify/session'
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { resolveOptions } from '../../base/options.ts'
import { expose } from '../metrics.ts'
import redis, { isOutage, type RedisClient, unavailable } from '../redis/index.ts'
import { lifeOf, type StoredCookie } from './cookie.ts'
import { ForeignSessions, outage } from './foreign.ts'
import { sessionDecorators, Unopened } from './held.ts'
import { addHooks, open } from './hooks.ts'
import { run } from './later.ts'
import { NewSessions } from './new-sessions.ts'
import { defaults, type Resolved, type SessionOptions, shapes } from './options.ts'
import { signerOf } from './secret.ts'
import type { Session } from './session.ts'
import type { Backing, Sessions } from './sessions.ts'
import { FleetStore } from './store.ts'
import type { Terms } from './terms.ts'
import { TrackedSessions } from './tracked.ts'

export type { AnonymousOptions, SessionOptions } from './options.ts'
export type { Sessions, UserSession } from './sessions.ts'
export type { Signer } from './signer.ts'
export { FleetStore, type FleetStoreOptions } from './store.ts'

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

const isSet = (value: unknown): boolean => ![undefined, null, false, ''].includes(value as null)

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

async function openStore(app: FastifyInstance, options: Resolved): Promise<Opened> {
  const { store, ttl, userId, merge, track, maxBytes } = options
  const { redis: client, fleet } = app
  const engine = track && client && store === 'fleet' ? tracked(app, client) : undefined
  const own =
    store === 'fleet' ? new FleetStore({ client, name: fleet.name, ttl, userId, merge, maxBytes, engine }) : store
  if (own instanceof FleetStore) {
    const { sessions } = own
    return { kind: sessions.kind, store: own, backing: sessions, sessions }
  }
  if (own !== 'connect-redis')
    return { kind: 'custom', store: own, backing: new ForeignSessions(own, outage, maxBytes) }
  if (!client)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', "`session.store` 'connect-redis' needs Redis; set REDIS_URL")
  const { RedisStore } = await import('connect-redis')
  const plain: SessionStore = new RedisStore({
    client,
    prefix: `${fleet.name}:connect-session:`,
    ttl: ({ cookie }: { cookie: StoredCookie }) => Math.ceil(lifeOf(cookie, ttl * 1000) / 1000),
  })
  return { kind: 'redis', store: plain, backing: new ForeignSessions(plain, unavailable, maxBytes) }
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

  const cookie: StoredCookie = { maxAge: options.cookie.expires ? null : ttl * 1000, ...options.cookie }
  const refusals = { anonymous: 0 }
  expose(app, 'fleet_sessions_refused_total', 'New sessions that were not kept, by their limit', 'reason', refusals)
  const { anonymous, userId } = options
  const newCookie = (from: StoredCookie): StoredCookie => (anonymous ? { ...from, anonymous: anonymous.ttlMs } : from)
  const newSessions = anonymous ? new NewSessions(anonymous, app.log, refusals) : undefined

  let warned = false
  const terms: Terms = {
    backing,
    signer: await signerOf(app, secret, options.algorithm),
    newId: options.idGenerator,
    cookieName,
    cookiePrefix,
    cookie,
    newCookie: newCookie(cookie),
    admits: newSessions && ((request) => newSessions.admits(request)),
    isAuthenticated: (data) => isSet(data[userId]) || isSet(data.user),
    rolling: options.rolling,
    saveUninitialized: options.saveUninitialized,
    ttlMs: cookie.maxAge ?? ttl * 1000,
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
    const cookie = { ...terms.cookie, ...(rest[0] as object) }
    const own = { ...terms, cookie, newCookie: newCookie(cookie) }
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
