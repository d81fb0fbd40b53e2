import { randomUUID } from 'node:crypto'
import jsonwebtoken from 'jsonwebtoken'
import { FleetError } from '../../base/errors.ts'
import { freeze, isClaims, parseHeader, type SignedClaims, type TokenClaims, TokenError } from './claims.ts'
import { Generations } from './generations.ts'
import type { KeyRing } from './keys.ts'
import type { Revocation, Revocations } from './revocations.ts'
import type { Lifetimes, TokenStore } from './store.ts'

export interface TokenPair {
  readonly accessToken: string
  readonly refreshToken: string
  readonly tokenType: 'Bearer'
  /** Life of the access token in seconds. */
  readonly expiresIn: number
}

/** What `revoke()` takes: a token of either kind, which is verified first, or the claims that name its session. */
export type Revocable = string | { readonly sub: string; readonly sid: string }

export interface TokenRules {
  /** `undefined`: tokens carry no `iss`, and none is required. */
  readonly issuer?: string
  /** Whether a refresh token without `iss` is accepted: this fleet's own store decides about it in any case. */
  readonly refreshesWithoutIssuer?: boolean
  readonly audience?: string | readonly string[]
  /** Seconds. */
  readonly clockTolerance: number
  readonly accessTtl: number
  readonly refreshTtl: number
  readonly failMode: 'open' | 'closed'
  readonly cacheSize: number
}

/** RFC 9068 for access tokens; a refresh token must never pass for one (RFC 8725 §3.11). */
const types = { access: ['at+jwt', 'JWT', undefined], refresh: ['rt+jwt'] } as const
const ours = ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'sid', 'gen']
const daySeconds = 86_400
/** Revocations outlive their tokens by this much, so that an instance whose clock is late still knows them. */
const marginSeconds = 60
/** JSON of a subject and the claims of the application, so that a token of any key stays below `maxTokenBytes`. */
const maxClaimBytes = 5000

interface Verified {
  readonly token: string
  readonly claims: TokenClaims
  /** Unix time in ms. */
  readonly until: number
  /** Of the revocations it was last held against. */
  version: number
}

/** What tokens are looked up by: the end of the signature, because hashing all of a token costs more than all the rest. */
const keyOf = (token: string): string => token.slice(-24)

/** Issues, verifies, rotates and revokes tokens. */
export class Tokens {
  readonly #ring: () => KeyRing
  readonly #store: TokenStore
  readonly #revocations: Revocations
  readonly #rules: TokenRules
  readonly #life: Lifetimes
  readonly #refreshView: () => Promise<void>
  readonly #announce: () => void
  readonly #verified: Generations<Verified>
  /** Seconds: a token that claims more could outlive the revocation of its subject. */
  readonly #longestLife: number

  constructor(parts: {
    /** Called for each signature: secrets that the fleet shares may change while Redis comes up. */
    ring: () => KeyRing
    store: TokenStore
    revocations: Revocations
    rules: TokenRules
    /** Brings the revocations up to date. */
    refreshView: () => Promise<void>
    /** Tells the other instances that there is a new one. */
    announce: () => void
  }) {
    this.#ring = parts.ring
    this.#store = parts.store
    this.#revocations = parts.revocations
    this.#rules = parts.rules
    this.#life = { access: parts.rules.accessTtl, refresh: parts.rules.refreshTtl }
    this.#refreshView = parts.refreshView
    this.#announce = parts.announce
    this.#verified = new Generations(parts.rules.cacheSize)
    this.#longestLife = Math.max(parts.rules.accessTtl, daySeconds)
  }

  /**
   * Starts a session: a login.
   *
   * @param claims your own; they are in every access token of the session, and readable by whoever holds one
   * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_STATE_UNAVAILABLE
   */
  async issue(subject: string, claims: Record<string, unknown> = {}): Promise<TokenPair> {
    checkSubject(subject)
    const taken = ours.find((name) => Object.hasOwn(claims, name))
    if (taken) throw new FleetError('FLEET_ERR_OPTION_INVALID', `\`claims.${taken}\` is set by tokens.issue() itself`)
    checkSize({ ...claims, sub: subject })
    const sid = randomUUID()
    const issuedAt = await this.#store.open(subject, sid, this.#life)
    return this.#pair({ ...claims, sub: subject, sid }, issuedAt, 0)
  }

  /** The claims of a token seen before, when it is still good as far as this instance knows: two look-ups, no I/O. */
  known(token: string): TokenClaims | undefined {
    const entry = this.#verified.get(keyOf(token))
    if (entry === undefined || entry.token !== token) return undefined
    const now = Date.now()
    if (now >= entry.until || this.#blind(now)) return undefined
    if (entry.version === this.#revocations.version) return entry.claims
    if (this.#revocations.has(entry.claims)) {
      this.#verified.delete(keyOf(token))
      return undefined
    }
    entry.version = this.#revocations.version
    return entry.claims
  }

  /**
   * The claims of an access token.
   *
   * @throws FLEET_ERR_TOKEN_INVALID, FLEET_ERR_TOKEN_EXPIRED, FLEET_ERR_TOKEN_REVOKED; FLEET_ERR_STATE_UNAVAILABLE when
   *   Redis is away and `failMode` is `closed`
   */
  async verify(token: string): Promise<TokenClaims> {
    // Callers without types pass on whatever a client sent.
    const known = typeof token === 'string' ? this.known(token) : undefined
    if (known) return known
    const claims = this.#read(token, 'access')
    if (this.#blind(Date.now())) await this.#refreshView()
    if (this.#revocations.has(claims)) throw new TokenError('FLEET_ERR_TOKEN_REVOKED')
    const until = (claims.exp + this.#rules.clockTolerance) * 1000
    this.#verified.set(keyOf(token), { token, claims, until, version: this.#revocations.version })
    return claims
  }

  /**
   * A new pair for a refresh token, which is good once. One that comes back has been stolen, or its successor has: the
   * session ends, whoever asks (RFC 9700 §4.14.2).
   *
   * @throws FLEET_ERR_TOKEN_INVALID, FLEET_ERR_TOKEN_EXPIRED, FLEET_ERR_TOKEN_REVOKED, FLEET_ERR_TOKEN_REUSED,
   *   FLEET_ERR_STATE_UNAVAILABLE
   */
  async refresh(refreshToken: string): Promise<TokenPair> {
    const { sub, sid, gen, iat, exp, jti, iss, aud, nbf, ...claims } = this.#read(refreshToken, 'refresh')
    if (sid === undefined || typeof gen !== 'number') throw new TokenError('FLEET_ERR_TOKEN_INVALID')
    const rotation = await this.#store.rotate(sub, sid, gen, this.#life)
    if (rotation.outcome === 'rotated')
      return this.#pair({ ...claims, sub, sid }, rotation.issuedAt, rotation.generation)
    const { outcome, until } = rotation
    if (until !== undefined) await this.#record({ kind: 'session', id: sid, cutoff: 0, until })
    throw new TokenError(outcome === 'reused' ? 'FLEET_ERR_TOKEN_REUSED' : 'FLEET_ERR_TOKEN_REVOKED')
  }

  /**
   * Ends a session (a logout), on every instance within a second. A token counts only with a signature of this fleet,
   * and claims only while the store knows their session, so that nothing is stored for what a client made up.
   *
   * @throws FLEET_ERR_TOKEN_INVALID for anything else, FLEET_ERR_STATE_UNAVAILABLE
   */
  async revoke(what: Revocable): Promise<void> {
    const isToken = typeof what === 'string'
    const { sub, sid, jti, iss, exp = 0 }: Partial<TokenClaims> = isToken ? this.#readEither(what) : (what ?? {})
    if (isSubject(sub) && isId(sid)) {
      const known = await this.#store.end(sub, sid)
      // The session of a genuine token may be unknown because Redis lost it: its access tokens would live on.
      const isGenuine = isToken && (this.#rules.issuer === undefined || iss === this.#rules.issuer)
      const until = known ?? (isGenuine && this.#isLive(exp) ? this.#longLasting() : undefined)
      if (until !== undefined) await this.#record({ kind: 'session', id: sid, cutoff: 0, until })
    } else if (isToken && isId(jti)) await this.#record({ kind: 'token', id: jti, cutoff: 0, until: exp })
    else throw new TokenError('FLEET_ERR_TOKEN_INVALID')
  }

  /**
   * Ends one access token by its `jti`; its session goes on. The id is stored as it is: never pass what a client sent.
   *
   * @param exp Unix time in seconds at which the token expires; the longest life of a token when left out
   * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_STATE_UNAVAILABLE
   */
  async revokeId(jti: string, exp?: number): Promise<void> {
    if (!isId(jti))
      throw new FleetError('FLEET_ERR_OPTION_INVALID', '`jti` must be text of 1 to 128 visible ASCII characters')
    const latest = this.#longLasting()
    const until = exp !== undefined && Number.isSafeInteger(exp) ? Math.min(exp, latest) : latest
    await this.#record({ kind: 'token', id: jti, cutoff: 0, until })
  }

  /**
   * Ends every session of a subject, and every token issued to it until now.
   *
   * @throws FLEET_ERR_STATE_UNAVAILABLE
   */
  async revokeAll(subject: string): Promise<void> {
    checkSubject(subject)
    const cutoff = await this.#store.endAll(subject)
    await this.#record({ kind: 'subject', id: subject, cutoff, until: cutoff + this.#longestLife })
  }

  /** An end later than any token's: rounded, so that a logout sent again and again is one revocation. */
  #longLasting(): number {
    return (Math.floor(Date.now() / 1000 / this.#longestLife) + 2) * this.#longestLife
  }

  #blind(now: number): boolean {
    return this.#rules.failMode === 'closed' && now >= this.#revocations.knownUntil
  }

  /** Whether a token with this `exp` is accepted by an instance whose clock is late. */
  #isLive(exp: number): boolean {
    return (exp + this.#rules.clockTolerance + marginSeconds) * 1000 > Date.now()
  }

  async #record(revocation: Revocation): Promise<void> {
    if (!this.#isLive(revocation.until)) return
    const lasting = { ...revocation, until: revocation.until + this.#rules.clockTolerance + marginSeconds }
    await this.#store.record(lasting)
    this.#revocations.add(lasting)
    this.#announce()
  }

  #pair(claims: { sub: string; sid: string }, issuedAt: number, generation: number): TokenPair {
    const { accessTtl, refreshTtl } = this.#rules
    return {
      accessToken: this.#sign('at+jwt', claims, issuedAt, accessTtl),
      refreshToken: this.#sign('rt+jwt', { ...claims, gen: generation }, issuedAt, refreshTtl),
      tokenType: 'Bearer',
      expiresIn: accessTtl,
    }
  }

  #sign(typ: string, claims: object, iat: number, ttl: number): string {
    const { kid, algorithm, sign } = this.#ring().signing
    const { issuer: iss, audience: aud } = this.#rules
    const payload = { ...claims, ...(iss && { iss }), ...(aud && { aud }), jti: randomUUID(), iat, exp: iat + ttl }
    return jsonwebtoken.sign(payload, sign, { algorithm, header: { alg: algorithm, typ, kid } })
  }

  /** A token of either kind, which may have expired. @throws FLEET_ERR_TOKEN_INVALID */
  #readEither(token: string): SignedClaims {
    const type = parseHeader(token)?.typ === 'rt+jwt' ? 'refresh' : 'access'
    return this.#read(token, type, true)
  }

  /** @throws FLEET_ERR_TOKEN_INVALID, FLEET_ERR_TOKEN_EXPIRED */
  #read(token: string, type: keyof typeof types, ignoreExpiration = false): SignedClaims {
    const header = parseHeader(token)
    const key = header && this.#ring().find(header)
    // `crit` names extensions that must be understood (RFC 7515 §4.1.11); we know none.
    const typed = header && (types[type] as readonly unknown[]).includes(header.typ)
    if (!key || !typed || header.crit !== undefined) throw new TokenError('FLEET_ERR_TOKEN_INVALID')
    try {
      const { audience, clockTolerance } = this.#rules
      const claims: unknown = jsonwebtoken.verify(token, key.verify, {
        algorithms: [key.algorithm],
        audience: audience as string | [string, ...string[]] | undefined,
        clockTolerance,
        ignoreExpiration,
      })
      if (isClaims(claims) && claims.exp - claims.iat <= this.#longest(type) && this.#isFromIssuer(claims, type))
        return freeze(claims)
    } catch (error) {
      if (error instanceof jsonwebtoken.TokenExpiredError) throw new TokenError('FLEET_ERR_TOKEN_EXPIRED', error)
      throw new TokenError('FLEET_ERR_TOKEN_INVALID', error)
    }
    throw new TokenError('FLEET_ERR_TOKEN_INVALID')
  }

  #isFromIssuer({ iss }: SignedClaims, type: keyof typeof types): boolean {
    const { issuer, refreshesWithoutIssuer } = this.#rules
    if (issuer === undefined || iss === issuer) return true
    return iss === undefined && type === 'refresh' && refreshesWithoutIssuer === true
  }

  #longest(type: keyof typeof types): number {
    return type === 'access' ? this.#longestLife : Number.POSITIVE_INFINITY
  }
}

function checkSubject(subject: unknown): void {
  if (isSubject(subject)) return
  throw new FleetError('FLEET_ERR_OPTION_INVALID', 'the subject of a token must be a string of 1 to 512 characters')
}

const isId = (value: unknown): value is string => typeof value === 'string' && /^[\x21-\x7e]{1,128}$/.test(value)
const isSubject = (value: unknown): value is string =>
  typeof value === 'string' && value !== '' && value.length <= 512 && value.isWellFormed()

/** @throws FLEET_ERR_OPTION_INVALID before a session is stored whose tokens could never be verified */
function checkSize(claims: object): void {
  const bytes = Buffer.byteLength(JSON.stringify(claims))
  if (bytes <= maxClaimBytes) return
  throw new FleetError(
    'FLEET_ERR_OPTION_INVALID',
    `subject and claims of a token have ${bytes} bytes as JSON, but ${maxClaimBytes} are the most`,
  )
}
