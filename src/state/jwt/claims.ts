import { FleetError, type FleetErrorCode } from '../../base/errors.ts'
import type { TokenHeader } from './keys.ts'

/** The claims that every access token of a fleet has. */
export interface StandardClaims {
  /** The subject, usually the id of the user. */
  readonly sub: string
  /** Unix time in seconds. */
  readonly iat: number
  readonly exp: number
  /** Id of the token. */
  readonly jti?: string
  /** Id of the session, which all tokens of one login share. */
  readonly sid?: string
  readonly iss?: string
  readonly aud?: string | readonly string[]
}

/**
 * The claims of a verified access token; `T` are those of the application. `request.user` is this object, frozen.
 *
 * @example
 * const { role } = await app.tokens.verify<{ role: 'admin' | 'customer' }>(accessToken)
 */
export type TokenClaims<T extends object = { [claim: string]: unknown }> = StandardClaims & Readonly<T>

/** All signed claims. A refresh token also has the generation of its session. */
export type SignedClaims = TokenClaims & { readonly gen?: unknown }

type TokenErrorCode = FleetErrorCode & `FLEET_ERR_TOKEN_${string}`

/** 401 with the challenge that RFC 6750 §3 requires. */
export class TokenError extends FleetError {
  override readonly headers: Record<string, string>

  constructor(code: TokenErrorCode, cause?: unknown) {
    super(code, undefined, { cause })
    // Without a token, the challenge contains no error code (§3.1).
    const error =
      code === 'FLEET_ERR_TOKEN_MISSING' ? '' : `, error="invalid_token", error_description="${this.message}"`
    this.headers = { 'www-authenticate': `Bearer realm="fleet"${error}` }
  }
}

/** Longest token in bytes. It is checked before anything is parsed. */
export const maxTokenBytes = 8192

/** The header of a token, unverified: it may only be used to find a key. */
export function parseHeader(token: unknown): TokenHeader | undefined {
  if (typeof token !== 'string' || token.length > maxTokenBytes) return undefined
  try {
    const header: unknown = JSON.parse(Buffer.from(token.slice(0, token.indexOf('.')), 'base64url').toString())
    return typeof header === 'object' && header !== null ? header : undefined
  } catch {
    return undefined
  }
}

/** Whether a payload has a subject, a time of issue and an expiry. */
export const isClaims = (v: unknown): v is SignedClaims => {
  const { sub, iat, exp, jti, sid } = (v ?? {}) as Record<string, unknown>
  const optional = (id: unknown): boolean => id === undefined || (typeof id === 'string' && id !== '')
  return (
    typeof sub === 'string' &&
    sub !== '' &&
    Number.isFinite(iat) &&
    Number.isFinite(exp) &&
    optional(jti) &&
    optional(sid)
  )
}

/** Most bytes of subject and application claims as JSON, so that a token of any key stays below `maxTokenBytes`. */
const maxClaimBytes = 5000

/** @throws FLEET_ERR_OPTION_INVALID */
export function checkSubject(subject: unknown): void {
  if (isSubject(subject)) return
  throw new FleetError('FLEET_ERR_OPTION_INVALID', 'the subject of a token must be a string of 1 to 512 characters')
}

export const isId = (value: unknown): value is string => typeof value === 'string' && /^[\x21-\x7e]{1,128}$/.test(value)
export const isSubject = (value: unknown): value is string =>
  typeof value === 'string' && value !== '' && value.length <= 512 && value.isWellFormed()

/** @throws FLEET_ERR_OPTION_INVALID, so that no session is stored whose tokens could never be verified */
export function checkSize(claims: object): void {
  const bytes = Buffer.byteLength(JSON.stringify(claims))
  if (bytes <= maxClaimBytes) return
  throw new FleetError(
    'FLEET_ERR_OPTION_INVALID',
    `subject and claims of a token have ${bytes} bytes as JSON; the limit is ${maxClaimBytes}`,
  )
}
