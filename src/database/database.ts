import { randomBytes } from 'node:crypto'
import fastifyCookie from '@fastify/cookie'
import type { FastifyInstance, FastifyPluginAsync, preSerializationHookHandler } from 'fastify'
import { ensure } from '../base/ensure.ts'
import { readEnv } from '../base/env.ts'
import { FleetError } from '../base/errors.ts'
import { adoptSchema, observeErrors } from '../base/internals/prisma.ts'
import {
  any,
  either,
  int,
  list,
  type OptionsOf,
  object,
  oneOf,
  type Resolved,
  resolveOptions,
  text,
  token,
} from '../base/options.ts'
import { within } from '../base/within.ts'
import { fleetPlugin } from '../instance/compat/index.ts'
import { health } from '../instance/health/index.ts'
import { checkOptions } from '../instance/health/runner.ts'
import { poolMetrics, routingMetrics } from './database-metrics.ts'
import { type DatabaseState, databaseState } from './database-state.ts'
import { databaseError, isOutage } from './errors.ts'
import { RequestReader } from './own-writes.ts'
import type { Pools } from './pools.ts'
import type { Router } from './router.ts'
import { shared } from './watch.ts'

/** The part of a Prisma client that the plugin uses. */
export interface DatabaseClient {
  // biome-ignore lint/suspicious/noExplicitAny: matches the declaration of generated clients
  $queryRawUnsafe<T = unknown>(query: string, ...values: any[]): PromiseLike<T>
  $disconnect(): Promise<void>
}

const ownWritesOptions = {
  /**
   * Signs the cookie. With several secrets, the first signs and all verify. At least 32 bytes each.
   * @default `SESSION_SECRET`, else a random one, which other instances do not know
   */
  secret: either(text, list(text)),
  /** Name of the cookie for clients without a session. */
  cookieName: token.default('fleet.wal'),
  /**
   * How long a write is remembered within its request and by a cookie. A session's position that is older is checked against the
   * primary. Must be longer than `maxLagMs` of `replicas`: by then a replica has replayed the write or is out of rotation.
   */
  keepMs: int(1_000, 86_400_000, 'milliseconds').default(60_000),
}
export type OwnWritesOptions = OptionsOf<typeof ownWritesOptions>

/** @internal */
export const databaseOptions = {
  /** A Prisma client, which the caller closes; or a function that creates one, which is closed with the app. */
  client: any<DatabaseClient | (() => DatabaseClient | Promise<DatabaseClient>)>(),
  /** Options of the health check `database`. Those that are not given are as in `health.checks`. */
  check: object({ ...checkOptions, critical: checkOptions.critical.default(true) }).default({}),
  /** Pools to report in `/metrics`; closed together with a client that the app created. */
  pools: any<Pools>(),
  /** Read-your-writes: a client reads only from replicas that have replayed its writes. `false`: from any. */
  ownWrites: either(oneOf(false), object(ownWritesOptions)).default({}),
}
/** `client` is required. */
export type DatabaseOptions = OptionsOf<typeof databaseOptions> &
  Required<Pick<OptionsOf<typeof databaseOptions>, 'client'>>

/** How long open queries may delay the exit, ms. A hanging server never ends them. */
const closeTimeoutMs = 5_000

declare module 'fastify' {
  /** Types that an app declares: `interface FleetTypes { database: typeof client }` gives `app.database` that type. */
  interface FleetTypes {}
  interface FastifyInstance {
    database: FleetTypes extends { database: infer Client } ? Client : DatabaseClient
    /** Servers and pools as this instance sees them. @internal */
    databaseState(): DatabaseState
  }
}

const isClient = (value: unknown): value is DatabaseClient =>
  typeof (value as DatabaseClient | null)?.$queryRawUnsafe === 'function' &&
  typeof (value as DatabaseClient).$disconnect === 'function'

/** Queries the primary, even of a client with replicas. One query at a time, because a hanging one occupies a connection. */
const ping = (client: DatabaseClient & { $primary?: () => DatabaseClient }): (() => Promise<unknown>) =>
  shared(async () => (typeof client.$primary === 'function' ? client.$primary() : client).$queryRawUnsafe('SELECT 1'))

async function disconnect(client: DatabaseClient): Promise<void> {
  const disconnected = client.$disconnect()
  if ((await within(closeTimeoutMs, disconnected)) !== 'late') await disconnected
}

/** @throws FLEET_ERR_SECRET_WEAK, FLEET_ERR_SECRET_MISSING */
function signingSecrets(app: FastifyInstance, given: string | readonly string[] | undefined): readonly string[] {
  const { SESSION_SECRET = [], production } = readEnv()
  const all = given === undefined ? SESSION_SECRET : typeof given === 'string' ? [given] : given
  if (all.some((secret) => Buffer.byteLength(secret) < 32))
    throw new FleetError('FLEET_ERR_SECRET_WEAK', '`database.ownWrites.secret` or SESSION_SECRET needs 32 bytes')
  if (all.length > 0) return all
  if (production)
    throw new FleetError(
      'FLEET_ERR_SECRET_MISSING',
      'set SESSION_SECRET, the same on every instance: openssl rand -hex 32',
    )
  app.log.warn(
    'database: SESSION_SECRET is not set; clients without a session read their own writes on this instance only',
  )
  return [randomBytes(32).toString('hex')]
}

/** Binds each request to a {@link RequestReader}, so that the router knows what the client wrote before. */
async function readOwnWrites(
  app: FastifyInstance,
  router: Router,
  { secret, cookieName, keepMs }: Resolved<typeof ownWritesOptions>,
): Promise<void> {
  await ensure(app, fastifyCookie)
  const { production, SESSION_COOKIE_SECURE } = readEnv()
  const secrets = signingSecrets(app, secret)
  let hasWarned = false
  const warnInsecure = (): void => {
    if (hasWarned) return
    hasWarned = true
    app.log.warn(
      `database: the cookie ${cookieName} is Secure and the request came without TLS, so browsers discard it and may read what ` +
        'their writes replaced; let the load balancer send X-Forwarded-Proto and list its address in TRUST_PROXY, or set SESSION_COOKIE_SECURE=auto',
    )
  }
  const secure = SESSION_COOKIE_SECURE ?? production
  const settings = { router, secrets, cookieName, secure, keepMs, warnInsecure }
  const key = Symbol('reader')
  type Keyed = { [key]: RequestReader }
  app.decorateRequest(key, null as never)
  app.addHook('onRequest', (request, _reply, done) => {
    const reader = new RequestReader(request, settings)
    ;(request as unknown as Keyed)[key] = reader
    router.readers.run(reader, done)
  })
  // A body arrives in socket events, which run outside of the request's async context.
  app.addHook('preValidation', (request, _reply, done) => {
    router.readers.run((request as unknown as Keyed)[key], done)
  })
  const keep =
    (saved: boolean): preSerializationHookHandler =>
    (request, reply, payload, done) => {
      const reader = (request as unknown as Keyed)[key] as RequestReader | null
      if (!reader?.mustKeep(reply)) return done(null, payload)
      reader.keep(reply, saved).then(() => done(null, payload), done)
    }
  // Sessions are saved in `onSend`. For a response without serialization, a session plugin registered earlier has already
  // saved the session when `onSend` runs here.
  app.addHook('preSerialization', keep(false))
  app.addHook('onSend', keep(app.hasRequestDecorator('session')))
}

const plugin: FastifyPluginAsync<DatabaseOptions> = async (app, given) => {
  await ensure(app, health)
  const { client: from, check, pools, ownWrites } = resolveOptions('database', databaseOptions, given)
  const client = isClient(from) ? from : typeof from === 'function' ? await from() : undefined
  if (!isClient(client))
    throw new FleetError(
      'FLEET_ERR_OPTION_INVALID',
      '`database.client` must be a Prisma client, or a function that returns one',
    )

  adoptSchema(client)
  app.decorate('database', client as never)
  app.fleet.describe('database', 'postgresql')
  app.health.add('database', ping(client), check)
  const report = (error: unknown): void => {
    if (isOutage(error)) app.health.failed('database', error)
  }
  const ignoreErrors = observeErrors(client, report)
  app.addHook('onClose', async () => ignoreErrors())
  const translate = (error: unknown): FleetError | undefined => {
    report(error)
    return databaseError(error)
  }
  if (app.hasDecorator('errorTranslators')) app.errorTranslators.push(translate)
  const router = (client as { $routing?: () => Router }).$routing?.()
  const routed = router !== undefined && router.set.replicas.length > 0
  app.decorate('databaseState', () => databaseState(app.health.reports.database?.status, router, pools))
  if (app.hasPlugin('fleet-metrics')) {
    if (pools) poolMetrics(pools, app.metrics)
    if (routed) routingMetrics(router, app.metrics)
  }
  if (routed && ownWrites) await readOwnWrites(app, router, ownWrites)
  if (client === from) return
  app.addHook('onClose', async () => {
    await disconnect(client)
    await pools?.close()
  })
}

/**
 * Decorates `app.database` and adds the health check `database`. The database may be down at boot: the instance is live,
 * not ready, and becomes ready by itself. With a client extended by `replicas`, clients read their own writes.
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_SECRET_WEAK, FLEET_ERR_SECRET_MISSING
 */
export const database: FastifyPluginAsync<DatabaseOptions> = fleetPlugin('database', plugin)
export default database
