import { FleetError, type FleetErrorCode } from '../../base/errors.ts'
import type { Header } from './keys.ts'

/** What a verified access token says. Your own claims stand beside these; `request.user` is this object, frozen. */
export interface TokenClaims {
  /** The subject: whose token it is. */
  readonly sub: string
  /** Unix time in seconds. */
  readonly iat: number
  readonly exp: number
  /** The token's own id. */
  readonly jti?: string
  /** The session, which the refresh tokens of one login share. */
  readonly sid?: string
  readonly iss?: string
  readonly aud?: string | readonly string[]
  readonly [claim: string]: unknown
}

/** As they were signed: a refresh token has the generation of its session besides. */
export type SignedClaims = TokenClaims & { readonly gen?: unknown }

type TokenErrorCode = FleetErrorCode & `FLEET_ERR_TOKEN_${string}`

/** 401, with the challenge that RFC 6750 §3 asks for. */
export class TokenError extends FleetError {
  override readonly headers: Record<string, string>

  constructor(code: TokenErrorCode, cause?: unknown) {
    super(code, undefined, { cause })
    // A request that brought no token at all is told the scheme and nothing else (§3.1).
    const error =
      code === 'FLEET_ERR_TOKEN_MISSING' ? '' : `, error="invalid_token", error_description="${this.message}"`
    this.headers = { 'www-authenticate': `Bearer realm="fleet"${error}` }
  }
}

/** Longest token that is looked at, in bytes: nothing is parsed before this has been checked. */
export const maxTokenBytes = 8192

/** The header of what may be a token: unverified, and good for a look-up only. */
export function parseHeader(token: unknown): Header | undefined {
  if (typeof token !== 'string' || token.length > maxTokenBytes) return undefined
  try {
    const header: unknown = JSON.parse(Buffer.from(token.slice(0, token.indexOf('.')), 'base64url').toString())
    return typeof header === 'object' && header !== null ? header : undefined
  } catch {
    return undefined
  }
}

/** Whether a payload says whose it is, and since when and how long it is good. */
export const isClaims = (v: unknown): v is SignedClaims => {
  if (typeof v !== 'object' || v === null) return false
  const { sub, iat, exp, jti, sid } = v as Record<string, unknown>
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

/** All requests of one token share its claims, so no handler may change them. */
export function freeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  for (const member of Object.values(value)) freeze(member)
  return Object.freeze(value)
}
