/**
 * Access tokens with refresh rotation and revocation: `app.tokens`, `app.authenticate` and `request.user`.
 *
 * - `tokens.ts`: {@link Tokens} issues, verifies, rotates and revokes. `claims.ts` has the shape of a token and its errors.
 * - `keys.ts`: the {@link KeyRing} with the signing key and all verifying keys. `jwks.ts` publishes the public ones.
 * - `store.ts`: the contract of `memory-store.ts` and `redis-store.ts`, which hold each session's current refresh token.
 * - `revocations.ts`: the revocations in force, in memory, and the feed that reads them from Redis.
 *
 * A token that was verified once is accepted from a cache without any I/O. While Redis is down and revocations cannot be read,
 * `onOutage` decides whether such a token is accepted.
 */

import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { readEnv } from '../../base/env.ts'
import { any, either, int, list, type OptionsOf, oneOf, path, resolveOptions, text } from '../../base/options.ts'
import { rejectRenamed } from '../../base/renamed-options.ts'
import { fleetPlugin, hasOwnDecorator } from '../../instance/compat/index.ts'
import { expose, exposeGauge } from '../../instance/metrics/expose.ts'
import { broadcast } from '../broadcast/index.ts'
import { redisOf, sharedSecret } from '../redis/index.ts'
import { maxTokenBytes, type TokenClaims, TokenError } from './claims.ts'
import { serveKeys } from './jwks.ts'
import { type JwtKey, KeyRing, keysFrom, keysFromJson } from './keys.ts'
import { MemoryTokenStore } from './memory-store.ts'
import { RedisTokenStore } from './redis-store.ts'
import { RevocationFeed, Revocations } from './revocations.ts'
import { Tokens } from './tokens.ts'

export { type StandardClaims, type TokenClaims, TokenError } from './claims.ts'
export type { Algorithm, JwtKey } from './keys.ts'
export type { Revocable, TokenPair } from './tokens.ts'

/** @internal */
export const jwtOptions = {
  /**
   * The first key signs, all verify. To rotate, put the new one in front and remove the old one later. @default `JWT_KEYS`
   */
  keys: list(any<JwtKey>()),
  /** HS256 secrets of at least 32 bytes instead of `keys`; the first one signs. @default `JWT_SECRET` */
  secret: either(text, list(text)),
  /**
   * The claim `iss`: set in every token and required in every token, so that tokens of another fleet with the same secret are
   * rejected; `false`: neither, for keys that are shared with another issuer. @default name of the fleet
   */
  issuer: either(oneOf(false), text),
  /** The claim `aud`, set in every token; a token must name one of them. */
  audience: either(text, list(text)),
  /** Largest difference of clocks; rounded up to a second, as are the lifetimes. */
  clockToleranceMs: int(0, 300_000, 'milliseconds').default(5000),
  /** Lifetime of an access token. */
  accessTtlMs: int(1000, 2_592_000_000, 'milliseconds').default(900_000),
  /** Lifetime of a refresh token. */
  refreshTtlMs: int(1000, 31_536_000_000, 'milliseconds').default(2_592_000_000),
  /**
   * For how long a second use of a refresh token by the same client returns the same new pair; 0: not at all. Later uses, and
   * those by other clients, end the session.
   */
  refreshLeewayMs: int(0, 300_000, 'milliseconds').default(10_000),
  /**
   * How valid access tokens are treated while Redis is down and a revocation may have been missed: `reject` responds 503,
   * `allow` accepts them. Logins and refreshes need Redis in any case.
   */
  onOutage: oneOf('reject', 'allow').default('reject'),
  /** Verified tokens kept in memory until they expire. */
  cacheSize: int(0, 1_000_000).default(10_000),
  /**
   * Path at which the public parts of `keys` are published, for services that verify tokens themselves; `false`: nowhere.
   * The path does not exist with secrets.
   */
  jwks: either(oneOf(false), path).default('/.well-known/jwks.json'),
}
export type JwtOptions = OptionsOf<typeof jwtOptions>

/** Options of version 0.1, and their new names. */
const renamed = {
  clockTolerance: 'clockToleranceMs',
  accessTtl: 'accessTtlMs',
  refreshTtl: 'refreshTtlMs',
  failMode: "onOutage: 'reject' | 'allow'",
}

const channel = 'fleet:jwt'

type Authenticate = (request: FastifyRequest, reply: FastifyReply, done?: () => void) => undefined | Promise<void>

declare module 'fastify' {
  interface FastifyInstance {
    tokens: Pick<Tokens, 'issue' | 'verify' | 'refresh' | 'revoke' | 'revokeId' | 'revokeAll'>
    /** A hook (`preHandler`, `onRequest`) that requires a valid `Authorization: Bearer …` and sets `request.user`. */
    authenticate: Authenticate
  }
  // Inherited, because a declaration of its own would contradict that of @fastify/jwt, which wins.
  interface FastifyRequest extends AuthenticatedRequest {}
}

/** A request after `app.authenticate`. */
export interface AuthenticatedRequest {
  /**
   * The claims of the access token; `null` in a route without `app.authenticate`. With @fastify/jwt installed, its type is
   * `user` of that package's interface `FastifyJWT`.
   */
  // biome-ignore lint/suspicious/noExplicitAny: every type that an app declares must be assignable to it
  user: 'jwt' extends keyof FastifyInstance ? any : TokenClaims
}

/** The token of `Bearer <token>` (RFC 6750 §2.1). The scheme is case-insensitive (RFC 9110 §11.1). */
function bearer({ headers }: FastifyRequest): string {
  const { authorization = '' } = headers
  if (!authorization.startsWith('Bearer ') && authorization.slice(0, 7).toLowerCase() !== 'bearer ')
    throw new TokenError('FLEET_ERR_TOKEN_MISSING')
  if (authorization.length > maxTokenBytes + 7) throw new TokenError('FLEET_ERR_TOKEN_INVALID')
  return authorization.slice(7)
}

/** Rejected requests by reason. The names are the last parts of the error codes. */
type RejectionCounts = Record<'missing' | 'invalid' | 'expired' | 'revoked' | 'unavailable', number>

/** A cached token, which nearly every request has, costs no promise. */
function authenticator(tokens: Tokens, rejections: RejectionCounts): Authenticate {
  const reject = (error: unknown): never => {
    const reason = String((error as { code?: unknown }).code)
      .split('_')
      .at(-1)
      ?.toLowerCase() as keyof RejectionCounts
    if (reason in rejections) rejections[reason]++
    throw error
  }
  const verify = async (request: FastifyRequest, token: string): Promise<void> => {
    request.user = await tokens.verify(token).catch(reject)
  }
  return function authenticate(request, _reply, done) {
    try {
      const token = bearer(request)
      const claims = tokens.cached(token)
      if (claims === undefined) return verify(request, token)
      request.user = claims
    } catch (error) {
      return Promise.reject(error).catch(reject)
    }
    done?.()
    return undefined
  }
}

const plugin: FastifyPluginAsync<JwtOptions> = async (app, given) => {
  const env = readEnv()
  rejectRenamed('jwt', given, renamed)
  const options = resolveOptions('jwt', jwtOptions, given)
  await ensure(app, broadcast)
  const { issuer = app.fleet.name } = options
  app.fleet.configure('jwt', { ...options, issuer })

  const keys = options.keys ?? (options.secret === undefined && env.JWT_KEYS ? keysFromJson(env.JWT_KEYS) : undefined)
  const secrets = keys ? [] : await sharedSecret(app, 'JWT_SECRET', options.secret ?? env.JWT_SECRET)
  const ring = keys ? new KeyRing(keys) : undefined
  const sharedRing = ringOf(secrets)

  const revocations = new Revocations()
  const redis = redisOf(app)
  const log = redis && new RedisTokenStore(redis, app.redisKey)
  app.fleet.describe('tokenStore', log ? 'redis' : 'memory')
  const feed = log && new RevocationFeed((cursor) => log.since(cursor), revocations)
  if (feed) {
    revocations.knownUntil = 0
    const unsubscribe = app.fleet.subscribe(channel, () => feed.pull(), { onReconnect: () => feed.restart() })
    app.addHook('onClose', async () => {
      feed.close()
      unsubscribe()
    })
    await feed.sync().catch(() => app.log.warn('jwt: revocations are not known yet because Redis is unavailable'))
  }

  const tokens = new Tokens({
    ring: () => ring ?? sharedRing(),
    store: log ?? new MemoryTokenStore(),
    revocations,
    rules: {
      issuer: issuer === false ? undefined : issuer,
      // Tokens that were issued before `issuer` had a default have no `iss`. Their sessions continue after an upgrade.
      refreshesWithoutIssuer: options.issuer === undefined,
      audience: options.audience,
      clockToleranceSeconds: toSeconds(options.clockToleranceMs),
      lifetimes: { accessSeconds: toSeconds(options.accessTtlMs), refreshSeconds: toSeconds(options.refreshTtlMs) },
      refreshLeewayMs: options.refreshLeewayMs,
      onOutage: options.onOutage,
      cacheSize: options.cacheSize,
    },
    refreshView: async () => feed?.sync(),
    // The revocation is in the log. An instance that misses the message reads it there.
    announce: () => void (feed && app.fleet.publish(channel, null).catch(() => {})),
  })
  app.decorate('tokens', tokens)
  if (!hasOwnDecorator(app, 'request', 'user')) app.decorateRequest('user', null as never)
  const rejections: RejectionCounts = { missing: 0, invalid: 0, expired: 0, revoked: 0, unavailable: 0 }
  expose(app, 'fleet_jwt_refused_total', 'Requests without a valid access token, by reason', 'reason', rejections)
  const inMemory = 'Revocations in the memory of this instance'
  exposeGauge(app, 'fleet_jwt_revocations', inMemory, () => revocations.size, 'max')
  if (!hasOwnDecorator(app, 'instance', 'authenticate')) app.decorate('authenticate', authenticator(tokens, rejections))
  if (ring && options.jwks !== false) serveKeys(app, options.jwks, ring)
}

/** Tokens contain whole seconds. */
const toSeconds = (ms: number): number => Math.ceil(ms / 1000)

/** The ring for a list of secrets, which may still change: see {@link sharedSecret}. */
function ringOf(secrets: readonly string[]): () => KeyRing {
  let loaded: { from: string | undefined; ring: KeyRing } | undefined
  return () => {
    if (!loaded || loaded.from !== secrets[0]) loaded = { from: secrets[0], ring: new KeyRing(keysFrom(secrets)) }
    return loaded.ring
  }
}

/**
 * Decorates `app.tokens`, `app.authenticate` and `request.user`: access tokens (RFC 9068) with refresh rotation, and
 * revocation that takes effect on every instance within a second.
 *
 * @throws FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK, FLEET_ERR_OPTION_INVALID, FLEET_ERR_ENV_INVALID
 */
export const jwt: FastifyPluginAsync<JwtOptions> = fleetPlugin('jwt', plugin)
export default jwt
