import { createHash, randomUUID } from 'node:crypto'
import { createRequire } from 'node:module'
import type { FastifyRequest } from 'fastify'
import { BoundedMap } from '../../base/bounded-map.ts'
import { deepFreeze } from '../../base/deep-freeze.ts'
import { detached } from '../../base/detached.ts'
import { FleetError } from '../../base/errors.ts'
import { clientKey } from '../../instance/client-key.ts'
import {
  checkSize,
  checkSubject,
  isClaims,
  isId,
  isSubject,
  parseHeader,
  type SignedClaims,
  type TokenClaims,
  TokenError,
} from './claims.ts'
import type { KeyRing } from './keys.ts'
import type { Revocation, Revocations } from './revocations.ts'
import type { TokenLifetimes, TokenStore } from './store.ts'

export interface TokenPair {
  readonly accessToken: string
  readonly refreshToken: string
  readonly tokenType: 'Bearer'
  /** Lifetime of the access token in seconds (RFC 6749 §5.1). */
  readonly expiresIn: number
}

const load = createRequire(import.meta.url)
/** Loaded on first use, because its 70 modules take a tenth of the time in which an app boots. */
const jsonwebtoken = (): typeof import('jsonwebtoken') => load('jsonwebtoken')

/** The argument of `revoke()`: a token of either kind, which is verified, or the claims that identify its session. */
export type Revocable = string | { readonly sub: string; readonly sid: string }

export interface TokenRules {
  /** `undefined`: tokens have no `iss`, and none is required. */
  readonly issuer?: string
  /** Whether a refresh token without `iss` is accepted. Only the fleet that stores its session can rotate it anyway. */
  readonly refreshesWithoutIssuer?: boolean
  readonly audience?: string | readonly string[]
  readonly clockToleranceSeconds: number
  readonly lifetimes: TokenLifetimes
  readonly refreshLeewayMs: number
  readonly onOutage: 'reject' | 'allow'
  readonly cacheSize: number
}

/** Accepted values of `typ`: RFC 9068 for access tokens. A refresh token must not pass for one (RFC 8725 §3.11). */
const types = { access: ['at+jwt', 'JWT', undefined], refresh: ['rt+jwt'] } as const
const reservedClaims = ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'sid', 'gen']
const daySeconds = 86_400
/** Revocations are kept this much longer than their tokens, for instances whose clocks are slow. */
const marginSeconds = 60

interface Verified {
  readonly token: string
  readonly claims: TokenClaims
  /** Unix time in ms. */
  readonly until: number
  /** Version of the revocations that it was last checked against. */
  version: number
}

/** Cache key of a token: the end of its signature, because hashing a whole token costs more than everything else. */
const cacheKey = (token: string): string => token.slice(-24)

export interface TokenParts {
  /** Called for each signature, because a generated secret may change when Redis becomes available. */
  ring(): KeyRing
  readonly store: TokenStore
  readonly revocations: Revocations
  readonly rules: TokenRules
  /** Updates the revocations. */
  refreshView(): Promise<void>
  /** Announces a new revocation to the other instances. */
  announce(): void
}

/** Issues, verifies, rotates and revokes tokens. */
export class Tokens {
  readonly #parts: TokenParts
  readonly #store: TokenStore
  readonly #revocations: Revocations
  readonly #rules: TokenRules
  readonly #verified: BoundedMap<Verified>
  /** In seconds. A token with a longer lifetime could outlive the revocation of its subject. */
  readonly #longestLife: number

  constructor(parts: TokenParts) {
    this.#parts = parts
    this.#store = parts.store
    this.#revocations = parts.revocations
    this.#rules = parts.rules
    this.#verified = new BoundedMap(parts.rules.cacheSize)
    this.#longestLife = Math.max(parts.rules.lifetimes.accessSeconds, daySeconds)
  }

  /**
   * Starts a session, at a login.
   *
   * @param claims claims of the application, in every access token of the session; clients can read them
   * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_STATE_UNAVAILABLE
   */
  async issue(subject: string, claims: object = {}): Promise<TokenPair> {
    checkSubject(subject)
    const reserved = reservedClaims.find((name) => Object.hasOwn(claims, name))
    if (reserved)
      throw new FleetError('FLEET_ERR_OPTION_INVALID', `\`claims.${reserved}\` is reserved: tokens.issue() sets it`)
    checkSize({ ...claims, sub: subject })
    const sid = randomUUID()
    const issuedAt = await this.#store.open(subject, sid, this.#rules.lifetimes)
    return this.#pair({ ...claims, sub: subject, sid }, issuedAt, 0)
  }

  /** The claims of a token that is in the cache and still valid. Costs two look-ups and no I/O. */
  cached(token: string): TokenClaims | undefined {
    const entry = this.#verified.get(cacheKey(token))
    if (entry === undefined || entry.token !== token) return undefined
    const now = Date.now()
    if (now >= entry.until || this.#isOutdated(now)) return undefined
    if (entry.version === this.#revocations.version) return entry.claims
    if (this.#revocations.has(entry.claims)) {
      this.#verified.delete(cacheKey(token))
      return undefined
    }
    entry.version = this.#revocations.version
    return entry.claims
  }

  /**
   * Verifies an access token.
   *
   * @throws FLEET_ERR_TOKEN_INVALID, FLEET_ERR_TOKEN_EXPIRED, FLEET_ERR_TOKEN_REVOKED; FLEET_ERR_STATE_UNAVAILABLE while
   *   Redis is down and `onOutage` is `reject`
   */
  verify<T extends object = { [claim: string]: unknown }>(token: string): Promise<TokenClaims<T>> {
    return this.#verify(token) as Promise<TokenClaims<T>>
  }

  async #verify(token: string): Promise<TokenClaims> {
    // JavaScript callers may pass on any value that a client sent.
    const cached = typeof token === 'string' ? this.cached(token) : undefined
    if (cached) return cached
    const claims = this.#read(token, 'access')
    if (this.#isOutdated(Date.now())) await this.#parts.refreshView()
    if (this.#revocations.has(claims)) throw new TokenError('FLEET_ERR_TOKEN_REVOKED')
    const until = (claims.exp + this.#rules.clockToleranceSeconds) * 1000
    const own = detached(token)
    this.#verified.set(cacheKey(own), { token: own, claims, until, version: this.#revocations.version })
    return claims
  }

  /**
   * Exchanges a refresh token for a new pair. A refresh token is valid once. A second use means that it or its successor was
   * stolen, so the session ends (RFC 9700 §4.14.2). But if the same client repeats the call within `refreshLeewayMs`, as two
   * tabs do that wake up together, it gets the same pair again.
   *
   * @param request the client's request: the leeway then applies to its address and `User-Agent` only, else to any client
   * @throws FLEET_ERR_TOKEN_INVALID, FLEET_ERR_TOKEN_EXPIRED, FLEET_ERR_TOKEN_REVOKED, FLEET_ERR_TOKEN_REUSED,
   *   FLEET_ERR_STATE_UNAVAILABLE
   */
  async refresh(refreshToken: string, request?: FastifyRequest): Promise<TokenPair> {
    const { sub, sid, gen, iat, exp, jti, iss, aud, nbf, ...claims } = this.#read(refreshToken, 'refresh')
    if (sid === undefined || typeof gen !== 'number') throw new TokenError('FLEET_ERR_TOKEN_INVALID')
    const { lifetimes, refreshLeewayMs: leewayMs } = this.#rules
    const client = request ? hash(`${clientKey(request)} ${request.headers['user-agent']}`) : '-'
    const rotation = await this.#store.rotate(sub, sid, gen, lifetimes, { client, leewayMs })
    if (rotation.outcome === 'rotated')
      return this.#pair({ ...claims, sub, sid }, rotation.issuedAt, rotation.generation)
    const { outcome, until } = rotation
    if (until !== undefined) await this.#record({ kind: 'session', id: sid, cutoff: 0, until })
    throw new TokenError(outcome === 'reused' ? 'FLEET_ERR_TOKEN_REUSED' : 'FLEET_ERR_TOKEN_REVOKED')
  }

  /**
   * Ends a session, at a logout, on every instance within a second. A token must have a signature of this fleet, and the
   * session of claims must be known to the store, so that nothing is stored for forged input.
   *
   * @throws FLEET_ERR_TOKEN_INVALID for any other token, FLEET_ERR_STATE_UNAVAILABLE
   */
  async revoke(what: Revocable): Promise<void> {
    const isToken = typeof what === 'string'
    const type = isToken && parseHeader(what)?.typ === 'rt+jwt' ? 'refresh' : 'access'
    // The token may have expired.
    const claims: Partial<TokenClaims> = isToken ? this.#read(what, type, true) : (what ?? {})
    const { sub, sid, jti, iss, exp = 0 } = claims
    if (isSubject(sub) && isId(sid)) {
      const known = await this.#store.end(sub, sid)
      // The session of a genuine token may be unknown because Redis lost it. Its access tokens must be revoked all the same.
      const isGenuine = isToken && (this.#rules.issuer === undefined || iss === this.#rules.issuer)
      const until = known ?? (isGenuine && this.#isLive(exp) ? this.#afterEveryExpiry() : undefined)
      if (until !== undefined) await this.#record({ kind: 'session', id: sid, cutoff: 0, until })
    } else if (isToken && isId(jti)) await this.#record({ kind: 'token', id: jti, cutoff: 0, until: exp })
    else throw new TokenError('FLEET_ERR_TOKEN_INVALID')
  }

  /**
   * Revokes one access token by its `jti`. Its session continues. The id is stored as it is: never pass on client input.
   *
   * @param exp Unix time in seconds at which the token expires @default the longest lifetime of a token from now
   * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_STATE_UNAVAILABLE
   */
  async revokeId(jti: string, exp?: number): Promise<void> {
    if (!isId(jti))
      throw new FleetError('FLEET_ERR_OPTION_INVALID', '`jti` must be a string of 1 to 128 visible ASCII characters')
    const latest = this.#afterEveryExpiry()
    const until = exp !== undefined && Number.isSafeInteger(exp) ? Math.min(exp, latest) : latest
    await this.#record({ kind: 'token', id: jti, cutoff: 0, until })
  }

  /**
   * Ends every session of a subject, and revokes every token issued to it until now.
   *
   * @throws FLEET_ERR_STATE_UNAVAILABLE
   */
  async revokeAll(subject: string): Promise<void> {
    checkSubject(subject)
    const cutoff = await this.#store.endAll(subject)
    await this.#record({ kind: 'subject', id: subject, cutoff, until: cutoff + this.#longestLife })
  }

  /** A time after the expiry of every token, rounded, so that a repeated logout is one revocation. */
  #afterEveryExpiry(): number {
    return (Math.floor(Date.now() / 1000 / this.#longestLife) + 2) * this.#longestLife
  }

  #isOutdated(now: number): boolean {
    return this.#rules.onOutage === 'reject' && now >= this.#revocations.knownUntil
  }

  /** Whether an instance whose clock is slow still accepts a token with this `exp`. */
  #isLive(exp: number): boolean {
    return (exp + this.#rules.clockToleranceSeconds + marginSeconds) * 1000 > Date.now()
  }

  async #record(revocation: Revocation): Promise<void> {
    if (!this.#isLive(revocation.until)) return
    const lasting = { ...revocation, until: revocation.until + this.#rules.clockToleranceSeconds + marginSeconds }
    await this.#store.record(lasting)
    this.#revocations.add(lasting)
    this.#parts.announce()
  }

  #pair(claims: { sub: string; sid: string }, issuedAt: number, generation: number): TokenPair {
    const { accessSeconds, refreshSeconds } = this.#rules.lifetimes
    // A repeated refresh must return the same tokens, and none is stored. So the ids are derived from what they belong to.
    const id = (typ: string): string => hash(`${typ} ${claims.sid} ${generation}`)
    return {
      accessToken: this.#sign('at+jwt', { ...claims, jti: id('at+jwt') }, issuedAt, accessSeconds),
      refreshToken: this.#sign('rt+jwt', { ...claims, gen: generation, jti: id('rt+jwt') }, issuedAt, refreshSeconds),
      tokenType: 'Bearer',
      expiresIn: accessSeconds,
    }
  }

  #sign(typ: string, claims: object, iat: number, ttl: number): string {
    const { kid, algorithm, sign } = this.#parts.ring().signing
    const { issuer: iss, audience: aud } = this.#rules
    const payload = { ...claims, ...(iss && { iss }), ...(aud && { aud }), iat, exp: iat + ttl }
    return jsonwebtoken().sign(payload, sign, { algorithm, header: { alg: algorithm, typ, kid } })
  }

  /** @throws FLEET_ERR_TOKEN_INVALID, FLEET_ERR_TOKEN_EXPIRED */
  #read(token: string, type: keyof typeof types, ignoreExpiration = false): SignedClaims {
    const header = parseHeader(token)
    const key = header && this.#parts.ring().find(header)
    // `crit` lists extensions that a recipient must support (RFC 7515 §4.1.11). None is supported.
    const hasType = header && (types[type] as readonly unknown[]).includes(header.typ)
    if (!key || !hasType || header.crit !== undefined) throw new TokenError('FLEET_ERR_TOKEN_INVALID')
    try {
      const { audience, clockToleranceSeconds: clockTolerance } = this.#rules
      const claims: unknown = jsonwebtoken().verify(token, key.verify, {
        algorithms: [key.algorithm],
        audience: audience as string | [string, ...string[]] | undefined,
        clockTolerance,
        ignoreExpiration,
      })
      const longest = type === 'access' ? this.#longestLife : Number.POSITIVE_INFINITY
      if (isClaims(claims) && claims.exp - claims.iat <= longest && this.#isFromIssuer(claims, type))
        return deepFreeze(claims) // All requests with one token share its claims, so handlers must not change them.
    } catch (error) {
      if (error instanceof jsonwebtoken().TokenExpiredError) throw new TokenError('FLEET_ERR_TOKEN_EXPIRED', error)
      throw new TokenError('FLEET_ERR_TOKEN_INVALID', error)
    }
    throw new TokenError('FLEET_ERR_TOKEN_INVALID')
  }

  #isFromIssuer({ iss }: SignedClaims, type: keyof typeof types): boolean {
    const { issuer, refreshesWithoutIssuer } = this.#rules
    if (issuer === undefined || iss === issuer) return true
    return iss === undefined && type === 'refresh' && refreshesWithoutIssuer === true
  }
}

const hash = (text: string): string => createHash('sha256').update(text).digest('base64url').slice(0, 22)
