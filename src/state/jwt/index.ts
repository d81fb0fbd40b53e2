import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { readEnv } from '../../base/env.ts'
import { any, either, int, list, oneOf, path, resolveOptions, type Shapes, text } from '../../base/options.ts'
import { broadcast } from '../broadcast/index.ts'
import { expose, exposeGauge } from '../metrics.ts'
import { sharedSecret } from '../redis/index.ts'
import { maxTokenBytes, type TokenClaims, TokenError } from './claims.ts'
import { serveKeys } from './jwks.ts'
import { type JwtKey, KeyRing, keysFrom, keysFromJson } from './keys.ts'
import { Feed, RedisStore } from './redis-store.ts'
import { Revocations } from './revocations.ts'
import { MemoryStore } from './store.ts'
import { type Revocable, type TokenPair, Tokens } from './tokens.ts'

export { type TokenClaims, TokenError } from './claims.ts'
export type { Algorithm, JwtKey } from './keys.ts'
export type { Revocable, TokenPair } from './tokens.ts'

export interface JwtOptions {
  /** The first key signs, all verify: to rotate, put the new one in front and take the last one out later. @default JWT_KEYS */
  keys?: JwtKey[]
  /** Instead of `keys`: HS256 secrets of at least 32 bytes, the first one signs. @default JWT_SECRET */
  secret?: string | string[]
  /**
   * Written to every token and required of every token (`iss`), so that the tokens of another fleet with the same secret
   * are rejected; `false`: neither, for keys that are shared with another issuer. @default name of the fleet
   */
  issuer?: string | false
  /** Written to every token (`aud`); a token must name one of them. @default none */
  audience?: string | string[]
  /** How far clocks may differ, 0 to 300 s. @default 5 */
  clockTolerance?: number
  /** Life of an access token, 1 to 2,592,000 s (30 days). @default 900 */
  accessTtl?: number
  /** Life of a refresh token, 1 to 31,536,000 s (a year). @default 2592000 (30 days) */
  refreshTtl?: number
  /**
   * What a good access token is worth while Redis does not answer and a revocation could have been missed: `closed`
   * answers 503, `open` accepts it. Logins and refreshes need Redis in any case. @default 'closed'
   */
  failMode?: 'open' | 'closed'
  /** Verified tokens kept in memory until they expire, 0 to 1,000,000. @default 10000 */
  cacheSize?: number
  /**
   * Where the public halves of `keys` are published, for services that verify tokens themselves; `false`: nowhere. With
   * secrets there is nothing to publish and no such path. @default '/.well-known/jwks.json'
   */
  jwks?: string | false
}

const shapes: Shapes = {
  keys: list(any),
  secret: either(text, list(text)),
  issuer: either(oneOf(false), text),
  audience: either(text, list(text)),
  clockTolerance: int(0, 300, 'seconds'),
  accessTtl: int(1, 2_592_000, 'seconds'),
  refreshTtl: int(1, 31_536_000, 'seconds'),
  failMode: oneOf('open', 'closed'),
  cacheSize: int(0, 1_000_000),
  jwks: either(oneOf(false), path),
}
const defaults = {
  clockTolerance: 5,
  accessTtl: 900,
  refreshTtl: 2_592_000,
  failMode: 'closed',
  cacheSize: 10_000,
  jwks: '/.well-known/jwks.json' as string | false,
} satisfies JwtOptions

/** A revocation that no message announced is found by the next question: both together stay below a second. */
const feedTimes = { intervalMs: 400, maxAgeMs: 1000 }
const channel = 'fleet:jwt'

type Authenticate = (request: FastifyRequest, reply: FastifyReply, done?: () => void) => undefined | Promise<void>

declare module 'fastify' {
  interface FastifyInstance {
    tokens: {
      issue(subject: string, claims?: Record<string, unknown>): Promise<TokenPair>
      verify(accessToken: string): Promise<TokenClaims>
      refresh(refreshToken: string): Promise<TokenPair>
      revoke(what: Revocable): Promise<void>
      revokeId(jti: string, exp?: number): Promise<void>
      revokeAll(subject: string): Promise<void>
    }
    /** A hook (`preHandler`, `onRequest`): only with a good `Authorization: Bearer …`, whose claims become `request.user`. */
    authenticate: Authenticate
  }
  interface FastifyRequest {
    /** The claims of the access token, once `app.authenticate` has run. */
    user: TokenClaims | null
  }
}

/** `Bearer` and one token (RFC 6750 §2.1); the scheme's case does not matter (RFC 9110 §11.1). */
function bearer({ headers }: FastifyRequest): string {
  const { authorization = '' } = headers
  if (!authorization.startsWith('Bearer ') && authorization.slice(0, 7).toLowerCase() !== 'bearer ')
    throw new TokenError('FLEET_ERR_TOKEN_MISSING')
  if (authorization.length > maxTokenBytes + 7) throw new TokenError('FLEET_ERR_TOKEN_INVALID')
  return authorization.slice(7)
}

/** Why requests were refused; the names are the ends of the error codes. */
type Refusals = Record<'missing' | 'invalid' | 'expired' | 'revoked' | 'unavailable', number>

/** No promise for a token that was seen before: that is nearly every request. */
function authenticator(tokens: Tokens, refusals: Refusals): Authenticate {
  const refuse = (error: unknown): never => {
    const reason = String((error as { code?: unknown }).code)
      .split('_')
      .at(-1)
      ?.toLowerCase() as keyof Refusals
    if (reason in refusals) refusals[reason]++
    throw error
  }
  const slowly = async (request: FastifyRequest, token: string): Promise<void> => {
    request.user = await tokens.verify(token).catch(refuse)
  }
  return function authenticate(request, _reply, done) {
    try {
      const token = bearer(request)
      const known = tokens.known(token)
      if (known === undefined) return slowly(request, token)
      request.user = known
    } catch (error) {
      return Promise.reject(error).catch(refuse)
    }
    done?.()
    return undefined
  }
}

const plugin: FastifyPluginAsync<JwtOptions> = async (app, given) => {
  const env = readEnv()
  const options = resolveOptions<JwtOptions & typeof defaults>('jwt', shapes, defaults, given)
  if (!app.hasPlugin('fleet-broadcast')) await app.register(broadcast)
  const { issuer = app.fleet.name } = options
  app.fleet.configure('jwt', { ...options, issuer })

  const keys = options.keys ?? (options.secret === undefined && env.JWT_KEYS ? keysFromJson(env.JWT_KEYS) : undefined)
  const secrets = keys ? [] : await sharedSecret(app, 'JWT_SECRET', options.secret ?? env.JWT_SECRET)
  const ring = keys ? new KeyRing(keys) : undefined
  const sharedRing = ringOf(secrets)

  const revocations = new Revocations()
  const { redis } = app
  const store = redis ? new RedisStore(redis, app.redisKey) : new MemoryStore()
  app.fleet.describe('tokenStore', store.kind)

  let feed: Feed | undefined
  if (redis && store instanceof RedisStore) {
    const started = new Feed(store, revocations, feedTimes)
    feed = started
    revocations.knownUntil = 0
    const unsubscribe = app.fleet.subscribe(channel, () => started.pull(), { onReconnect: () => started.restart() })
    app.addHook('onClose', async () => {
      started.close()
      unsubscribe()
    })
    await started.sync().catch(() => app.log.warn('jwt: revocations are not known yet; Redis does not answer'))
  }

  const tokens = new Tokens({
    ring: () => ring ?? sharedRing(),
    store,
    revocations,
    rules: {
      ...options,
      issuer: issuer === false ? undefined : issuer,
      // Those that were issued before the default had no `iss`: a session goes on through an upgrade.
      refreshesWithoutIssuer: options.issuer === undefined,
    },
    refreshView: async () => feed?.sync(),
    // The log has it already: who misses the message reads it there.
    announce: () => void (feed && app.fleet.publish(channel, null).catch(() => {})),
  })
  app.decorate('tokens', tokens)
  app.decorateRequest('user', null)
  const refusals: Refusals = { missing: 0, invalid: 0, expired: 0, revoked: 0, unavailable: 0 }
  expose(app, 'fleet_jwt_refused_total', 'Requests without a good access token, by what was wrong', 'reason', refusals)
  exposeGauge(app, 'fleet_jwt_revocations', 'Revocations this instance knows', () => revocations.size)
  app.decorate('authenticate', authenticator(tokens, refusals))
  if (ring && options.jwks !== false) serveKeys(app, options.jwks, ring)
}

/** The ring of a list of secrets that may still change: see {@link sharedSecret}. */
function ringOf(secrets: readonly string[]): () => KeyRing {
  let loaded: { from: string | undefined; ring: KeyRing } | undefined
  return () => {
    if (!loaded || loaded.from !== secrets[0]) loaded = { from: secrets[0], ring: new KeyRing(keysFrom(secrets)) }
    return loaded.ring
  }
}

/**
 * Decorates `app.tokens`, `app.authenticate` and `request.user`: access tokens (RFC 9068) with refresh rotation, and
 * revocation that every instance obeys within a second.
 *
 * @throws FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK, FLEET_ERR_OPTION_INVALID, FLEET_ERR_ENV_INVALID
 */
export const jwt: FastifyPluginAsync<JwtOptions> = fp(plugin, { name: 'fleet-jwt', fastify: '5.x' })
export default jwt
