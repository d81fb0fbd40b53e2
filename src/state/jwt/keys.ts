import { createHmac, createPrivateKey, createPublicKey, createSecretKey, type KeyObject } from 'node:crypto'
import { FleetError } from '../../base/errors.ts'
import { type OptionsOf, oneOf, resolveOptions, shape, text } from '../../base/options.ts'

const algorithms = [
  ...(['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512'] as const),
  ...(['PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512'] as const),
] as const
export type Algorithm = (typeof algorithms)[number]

/** @internal */
export const jwtKeyOptions = {
  /** Identifies the key in the header of its tokens. */
  kid: shape<string>(
    'up to 64 letters, digits or . _ : @ -',
    (v) => (typeof v === 'string' || typeof v === 'number') && /^[\w.:@-]{1,64}$/.test(`${v}`),
  ),
  /** For HS256, HS384 and HS512: at least 32, 48 or 64 bytes, the length of the hash (RFC 7518 §3.2). */
  secret: text,
  /** PEM. For RSA at least 2048 bits. */
  privateKey: text,
  /** PEM. A key without a private part only verifies. @default derived from `privateKey` */
  publicKey: text,
  /** The only algorithm of the key. @default `HS256` for a secret, `RS256` for RSA, the algorithm of the curve for EC */
  algorithm: oneOf(...algorithms),
}
/** A key in the options: either `secret`, or one or both of `privateKey` and `publicKey`. */
export type JwtKey = OptionsOf<typeof jwtKeyOptions> & { kid: string }

/** A key that was loaded from the options. It serves one algorithm only. */
export interface LoadedKey {
  readonly kid: string
  readonly algorithm: Algorithm
  readonly verify: KeyObject
  readonly sign?: KeyObject
}

/** The header of a token. It is unverified and may only be used to look up a key. */
export interface TokenHeader {
  readonly alg?: unknown
  readonly kid?: unknown
  readonly typ?: unknown
  readonly crit?: unknown
}

/** The keys of a fleet: the first one signs, all verify. */
export class KeyRing {
  readonly signing: LoadedKey & { readonly sign: KeyObject }
  readonly #keys: ReadonlyMap<string, LoadedKey>

  /** @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_SECRET_WEAK */
  constructor(keys: readonly JwtKey[]) {
    const loaded = keys.map(load)
    const first = loaded[0]
    if (!first?.sign)
      throw invalid('jwt.keys[0]', 'must have a `secret` or a `privateKey`, because the first key signs')
    this.signing = { ...first, sign: first.sign }
    this.#keys = new Map(loaded.map((key) => [key.kid, key]))
    if (this.#keys.size < loaded.length) throw invalid('jwt.keys', 'must not contain two keys with the same `kid`')
  }

  get keys(): Iterable<LoadedKey> {
    return this.#keys.values()
  }

  /**
   * The key for a header. It is looked up by `kid` in this ring only, and only for the key's own algorithm, which rules out
   * `none` and an RSA key used as an HMAC secret (RFC 8725 §3.1). A token without `kid` is accepted by a ring of one key.
   */
  find({ kid, alg }: TokenHeader): LoadedKey | undefined {
    const key = kid === undefined && this.#keys.size === 1 ? this.signing : this.#keys.get(kid as string)
    return key?.algorithm === alg ? key : undefined
  }
}

/** Keys for plain secrets. The `kid` is a fingerprint of the secret, so it changes when the secret is rotated. */
export function keysFrom(secrets: readonly string[]): JwtKey[] {
  return secrets.map((secret) => ({
    kid: createHmac('sha256', secret).update('fastify-fleet kid').digest('base64url').slice(0, 8),
    secret,
  }))
}

/** @throws FLEET_ERR_ENV_INVALID */
export function keysFromJson(json: string): JwtKey[] {
  try {
    const keys: unknown = JSON.parse(json)
    if (Array.isArray(keys) && keys.length > 0) return keys
  } catch {} // The parser's message would quote the secrets.
  throw new FleetError('FLEET_ERR_ENV_INVALID', 'JWT_KEYS must be a JSON list such as [{"kid":"2026-11","secret":"…"}]')
}

function load(given: JwtKey, index: number): LoadedKey {
  const name = `jwt.keys[${index}]`
  const { kid, secret, privateKey, publicKey, algorithm } = resolveOptions(name, jwtKeyOptions, given)
  if (kid === undefined) throw invalid(name, 'must have a `kid`')
  if (secret !== undefined) {
    if (privateKey !== undefined || publicKey !== undefined)
      throw invalid(name, 'must have a secret or PEM keys, not both')
    // With a public key as the secret, every client could sign tokens.
    if (secret.includes('-----BEGIN'))
      throw invalid(`${name}.secret`, 'is a PEM key; set privateKey or publicKey instead')
    const alg = algorithm ?? 'HS256'
    if (!alg.startsWith('HS')) throw invalid(`${name}.algorithm`, 'must be HS256, HS384 or HS512 for a secret')
    const needed = Number(alg.slice(2)) / 8
    if (Buffer.byteLength(secret) < needed)
      throw new FleetError(
        'FLEET_ERR_SECRET_WEAK',
        `\`${name}.secret\` needs ${needed} bytes: openssl rand -hex ${needed}`,
      )
    const key = createSecretKey(secret, 'utf8')
    return { kid, algorithm: alg, sign: key, verify: key }
  }
  const sign = privateKey === undefined ? undefined : parse(`${name}.privateKey`, privateKey, createPrivateKey)
  const pem = publicKey ?? privateKey
  if (pem === undefined) throw invalid(name, 'must have a `secret`, a `privateKey` or a `publicKey`')
  const verify = parse(`${name}.publicKey`, pem, createPublicKey)
  if (sign && publicKey !== undefined && !createPublicKey(sign).equals(verify))
    throw invalid(name, 'has a `publicKey` that does not belong to its `privateKey`')
  return { kid, algorithm: algorithmFor(name, verify, algorithm), sign, verify }
}

/** The algorithm of a public key: the configured one if the key supports it (RFC 7518 §3.1), else the default. */
function algorithmFor(name: string, key: KeyObject, wanted: Algorithm | undefined): Algorithm {
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {}
  const curves: Record<string, Algorithm[]> = { prime256v1: ['ES256'], secp384r1: ['ES384'], secp521r1: ['ES512'] }
  const supported =
    key.asymmetricKeyType === 'rsa' ? algorithms.filter((a) => /^[RP]S/.test(a)) : (curves[namedCurve] ?? [])
  if (supported.length === 0) throw invalid(name, 'must be an RSA key, or an EC key on P-256, P-384 or P-521')
  if (supported.includes('RS256') && modulusLength < 2048)
    throw new FleetError('FLEET_ERR_SECRET_WEAK', `\`${name}\` is an RSA key of ${modulusLength} bits, but needs 2048`)
  const chosen = wanted ?? (supported[0] as Algorithm)
  if (!supported.includes(chosen)) throw invalid(`${name}.algorithm`, `must be ${supported.join(', ')} for this key`)
  return chosen
}

function parse(name: string, pem: string, read: (pem: string) => KeyObject): KeyObject {
  try {
    return read(pem)
  } catch {
    throw invalid(name, 'must be a key in PEM form, unencrypted') // OpenSSL's message may contain parts of the key.
  }
}

const invalid = (name: string, rule: string): FleetError =>
  new FleetError('FLEET_ERR_OPTION_INVALID', `\`${name}\` ${rule}`)
