/**
 * `request.session`: server-side sessions in Redis, so that no session is lost with an instance.
 *
 * The path of a request:
 *
 * 1. `hooks.ts`, `onRequest`: verifies the cookie (`signer.ts`), loads the {@link SessionRecord} and attaches a
 *    `LazySession`, which becomes a `Session` when the handler first uses `request.session`.
 * 2. `session.ts`: `Session`, the object that handlers use. It remembers what was loaded (the baseline).
 * 3. `hooks.ts`, `onSend`: `Session.finish()` saves what has changed and sets the cookie (`cookie.ts`).
 *
 * Where a session is saved: `Session` calls a `SessionBackend`. That is `Sessions` (`repository.ts`), which merges changes
 * into a `RecordStore` (`store.ts`): `redis-store.ts`, or `memory-store.ts` without Redis. `record.ts` is the format. A
 * custom store is wrapped by `adapters.ts`, which also has `FleetStore`, our store for other session plugins.
 *
 * What happens if Redis rejects a read or a write: the store throws FLEET_ERR_STATE_UNAVAILABLE, or FLEET_ERR_STATE_FULL
 * above `maxmemory`, and the response is 503 with `Retry-After`. If Redis rejects the write, the stored session is unchanged;
 * if it times out, the write may have been applied. No cookie is issued for a new session. The 503 may still renew the
 * signature of the cookie of a loaded session, or clear a cookie that names no live session.
 * With `onOutage: 'allow'` (`tolerateOutage` below) the request continues: a session that cannot be loaded is empty and not
 * saved, and changes that cannot be saved are dropped. `destroy()`, `regenerate()` and `save()` still fail.
 *
 * {@link SessionContext} (`options.ts`) holds what all sessions of an app share.
 */

import fastifyCookie from '@fastify/cookie'
import type { SessionStore } from '@fastify/session'
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { run } from '../../base/maybe-promise.ts'
import { resolveOptions } from '../../base/options.ts'
import { rejectRenamed } from '../../base/renamed-options.ts'
import { readRouteConfig } from '../../base/route-config.ts'
import { fleetPlugin, hasOwnDecorator, replacedIn } from '../../instance/compat/index.ts'
import { expose, exposeCount } from '../../instance/metrics/expose.ts'
import { ClientQuota, type QuotaExceeded } from '../client-quota.ts'
import redis, { isOutage, type RedisClient, redisOf, unavailable } from '../redis/index.ts'
import { CustomStoreBackend, FleetStore, outageError } from './adapters.ts'
import { describeAdopted } from './adopted.ts'
import { lifetimeOf, type StoredCookie } from './cookie.ts'
import { addHooks, LazySession, open } from './hooks.ts'
import {
  type AnonymousOptions,
  type ResolvedSessionOptions,
  type RouteSession,
  renamed,
  routeSession,
  type SessionContext,
  type SessionOptions,
  sessionOptions,
} from './options.ts'
import { TrackedRecordStore } from './redis-store.ts'
import { describeType, isSet, type SessionBackend, type Sessions } from './repository.ts'
import type { Session } from './session.ts'
import { createSigner } from './signer.ts'

export { FleetStore, type FleetStoreOptions } from './adapters.ts'
export type { AnonymousOptions, RouteSession, SessionOptions } from './options.ts'
export type { Sessions, UserSession } from './repository.ts'
export type { Signer } from './signer.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Sessions by user: `list(userId)`, `destroyAll(userId)`. @throws FLEET_ERR_OPTION_INVALID with another store */
    sessions: Sessions
  }
  interface FastifyContextConfig {
    /** `false`: this route has no session, and a session cookie costs nothing on it. */
    session?: boolean | RouteSession
  }
}

interface OpenedStore {
  readonly kind: string
  readonly store: SessionStore
  readonly backend: SessionBackend
  readonly sessions?: Sessions
  readonly tracked?: TrackedRecordStore
}

function openTracked(app: FastifyInstance, client: RedisClient): TrackedRecordStore {
  const rejected = (reason: string): void =>
    app.log.warn({ reason }, 'session: Redis does not announce changes, so `track` caches nothing')
  const records = new TrackedRecordStore(client, app.fleet.name, rejected)
  app.addHook('onClose', async () => records.close())
  return records
}

async function openStore(app: FastifyInstance, options: ResolvedSessionOptions): Promise<OpenedStore> {
  const { store, ttlMs, userId, merge, track, maxBytes } = options
  const { fleet } = app
  const client = redisOf(app)
  const tracked = track && client && store === 'fleet' ? openTracked(app, client) : undefined
  const given =
    store === 'fleet'
      ? new FleetStore({ client, name: fleet.name, ttl: ttlMs / 1000, userId, merge, maxBytes, engine: tracked })
      : store
  if (given instanceof FleetStore) {
    const { sessions } = given
    return { kind: sessions.kind, store: given, backend: sessions, sessions, tracked }
  }
  if (given !== 'connect-redis')
    return { kind: 'custom', store: given, backend: new CustomStoreBackend(given, outageError, maxBytes) }
  if (!client)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', "`session.store` 'connect-redis' needs Redis; set REDIS_URL")
  const { RedisStore } = await import('connect-redis')
  const connectRedis: SessionStore = new RedisStore({
    client,
    prefix: `${fleet.name}:connect-session:`,
    ttl: ({ cookie }: { cookie: StoredCookie }) => Math.ceil(lifetimeOf(cookie, ttlMs) / 1000),
  })
  return { kind: 'redis', store: connectRedis, backend: new CustomStoreBackend(connectRedis, unavailable, maxBytes) }
}

function addMetrics(app: FastifyInstance, { backend: { counts }, tracked }: OpenedStore): void {
  exposeCount(app, 'fleet_sessions_created_total', 'New sessions that were saved', () => counts.created)
  exposeCount(app, 'fleet_sessions_loaded_total', 'Live sessions that were loaded', () => counts.loaded)
  exposeCount(
    app,
    'fleet_sessions_saved_total',
    'Saves of existing sessions: changes and longer lifetimes',
    () => counts.saved,
  )
  exposeCount(
    app,
    'fleet_sessions_destroyed_total',
    'Sessions ended by a logout, a new id, an operator or an expired cookie',
    () => counts.destroyed,
  )
  exposeCount(
    app,
    'fleet_sessions_tracked_hits_total',
    'Sessions loaded from memory, without a command to Redis',
    () => tracked?.hits ?? 0,
  )
}

/** The limits on new anonymous sessions, with their metric and their warning. */
function openQuota(app: FastifyInstance, limits: Required<AnonymousOptions> | false): ClientQuota | undefined {
  const rejected = { anonymous: 0 }
  expose(app, 'fleet_sessions_refused_total', 'New sessions that were not saved, by exceeded limit', 'reason', rejected)
  if (!limits) return undefined
  const exceeded: QuotaExceeded = (client, isFirst) => {
    rejected.anonymous++
    if (!isFirst) return
    const source = client === undefined ? 'the clients together have' : `the client ${client} has`
    const option = client === undefined ? 'totalPerMinute' : 'perMinute'
    app.log.warn(
      `session: new sessions without a login are not saved for the rest of this minute, because ${source} started ` +
        `${limits[option]} (\`session.anonymous.${option}\`); if many clients share one address, set TRUST_PROXY`,
    )
  }
  return new ClientQuota(limits, exceeded)
}

/** Warns once if the field of the user holds a value that identifies no user. */
function warnOfUnlisted(app: FastifyInstance, sessions: Sessions): void {
  sessions.onUnlisted = (field, value) => {
    sessions.onUnlisted = () => {}
    app.log.warn(
      `session: saved, but not listed by user, because \`session.${field}\` holds ${describeType(value)}; ` +
        '`app.sessions.list()` and `destroyAll()` do not find it; store the id of the user, a string or a number',
    )
  }
}

const plugin: FastifyPluginAsync<SessionOptions> = async (app, given) => {
  await ensure(app, redis)
  if (!hasOwnDecorator(app, 'reply', 'setCookie')) await app.register(fastifyCookie)
  const env = readEnv()
  rejectRenamed('session', given, renamed)
  const options = resolveOptions(
    'session',
    sessionOptions,
    {
      ttlMs: env.SESSION_TTL === undefined ? undefined : env.SESSION_TTL * 1000,
      cookie: { secure: env.SESSION_COOKIE_SECURE ?? env.production },
    },
    given,
  )
  const { ttlMs, anonymous, userId } = options
  const lifeMs = options.cookie.maxAge ?? ttlMs
  const { touchAfterMs = Math.floor(lifeMs / 10) } = options
  const opened = await openStore(app, options)
  const { kind, store, backend, sessions } = opened
  if (sessions) warnOfUnlisted(app, sessions)
  addMetrics(app, opened)
  app.fleet.describe('sessionStore', kind)
  app.fleet.configure('session', { ...options, touchAfterMs })

  const { maxAge = options.cookie.expires ? null : ttlMs, ...attributes } = options.cookie
  const cookie: StoredCookie = { maxAge, ...attributes }
  const newCookie = (from: StoredCookie): StoredCookie => (anonymous ? { ...from, anonymous: anonymous.ttlMs } : from)
  const quota = openQuota(app, anonymous)

  let hasWarned = false
  const context: SessionContext = {
    backend,
    signer: await createSigner(app, options.secret, options.algorithm),
    newId: options.idGenerator,
    cookieName: options.cookieName,
    cookiePrefix: options.cookiePrefix,
    cookie,
    newCookie: newCookie(cookie),
    admits: quota && ((request) => quota.admits(request)),
    isAuthenticated: (data) => isSet(data[userId]) || isSet(data.user),
    rolling: options.rolling,
    saveUninitialized: options.saveUninitialized,
    ttlMs: lifeMs,
    touchAfterMs,
    warnInsecure() {
      if (hasWarned) return
      hasWarned = true
      app.log.warn(
        'session: not saved, because its cookie is Secure and the request came without TLS; let the load balancer send ' +
          'X-Forwarded-Proto and list its address in TRUST_PROXY, or set SESSION_COOKIE_SECURE=auto',
      )
    },
  }
  const isReplaced = replacedIn(app, 'request.session')
  app.addHook('onRoute', function (route) {
    if (!isReplaced({ server: this })) readRouteConfig(route, 'session', routeSession)
  })
  const tolerateOutage = (error: unknown, { routeOptions }: FastifyRequest): boolean => {
    const { session } = routeOptions.config
    const { onOutage = options.onOutage } = typeof session === 'object' ? session : {}
    return onOutage === 'allow' && isOutage(error)
  }

  app.decorateRequest('sessionStore', { getter: () => store })
  app.decorate('sessions', {
    getter() {
      if (sessions) return sessions
      throw new FleetError('FLEET_ERR_OPTION_INVALID', "`app.sessions` needs `session.store` to be 'fleet'")
    },
  })
  // The name is that of @fastify/session, whose users load a session outside of a request with it.
  app.decorate('decryptSession', (signed: string, request: object, ...rest: unknown[]) => {
    const callback = rest.pop() as (error?: unknown) => void
    const cookie = { ...context.cookie, ...(rest[0] as object) }
    const ownContext = { ...context, cookie, newCookie: newCookie(cookie) }
    const set = (opened: Session | LazySession): void => {
      const session = opened instanceof LazySession ? opened.open(request as FastifyRequest) : opened
      Object.assign(request, { session })
      callback()
    }
    run(() => open(ownContext, request as FastifyRequest, signed), set, callback)
  })
  addHooks(app, context, tolerateOutage)
}

/**
 * Decorates `request.session`, `app.sessions` and `app.decryptSession()`. Sessions are saved in Redis.
 *
 * @throws FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK, FLEET_ERR_OPTION_INVALID
 */
export const session: FastifyPluginAsync<SessionOptions> = fleetPlugin('session', plugin, { describe: describeAdopted })
export default session
