import { createHmac, createPrivateKey, createPublicKey, createSecretKey, type KeyObject } from 'node:crypto'
import { FleetError } from '../../base/errors.ts'
import { oneOf, resolveOptions, type Shapes, text } from '../../base/options.ts'

const algorithms = [
  ...(['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512'] as const),
  ...(['PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512'] as const),
] as const
export type Algorithm = (typeof algorithms)[number]

/** A key as it is configured: either `secret`, or one or both of `privateKey` and `publicKey`. */
export interface JwtKey {
  /** Names the key in the header of its tokens: up to 64 letters, digits or `. _ : @ -`. */
  kid: string
  /** For HS256, HS384, HS512: at least as many bytes as the hash has, 32, 48 or 64 (RFC 7518 §3.2). */
  secret?: string
  /** PEM. For RSA at least 2048 bits. */
  privateKey?: string
  /** PEM; a key without a private half verifies only. @default derived from `privateKey` */
  publicKey?: string
  /** @default HS256 for a secret, RS256 for RSA, the curve's own for EC */
  algorithm?: Algorithm
}

/** A key as it is used: loaded once, and good for one algorithm only. */
export interface Key {
  readonly kid: string
  readonly algorithm: Algorithm
  readonly verify: KeyObject
  readonly sign?: KeyObject
}

const shapes: Shapes = {
  kid: {
    expects: 'up to 64 letters, digits or . _ : @ -',
    accepts: (v): v is string => (typeof v === 'string' || typeof v === 'number') && /^[\w.:@-]{1,64}$/.test(`${v}`),
  },
  secret: text,
  privateKey: text,
  publicKey: text,
  algorithm: oneOf(...algorithms),
}

/** What a token claims about the key that signed it: nothing here is to be believed, only looked up. */
export interface Header {
  readonly alg?: unknown
  readonly kid?: unknown
  readonly typ?: unknown
  readonly crit?: unknown
}

/** The keys of a fleet: the first one signs, all verify. */
export class KeyRing {
  readonly signing: Key & { readonly sign: KeyObject }
  readonly #keys: ReadonlyMap<string, Key>

  /** @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_SECRET_WEAK */
  constructor(keys: readonly JwtKey[]) {
    const loaded = keys.map(load)
    const first = loaded[0]
    if (!first?.sign)
      throw invalid('jwt.keys[0]', 'must hold a `secret` or a `privateKey`, because the first key signs')
    this.signing = { ...first, sign: first.sign }
    this.#keys = new Map(loaded.map((key) => [key.kid, key]))
    if (this.#keys.size < loaded.length) throw invalid('jwt.keys', 'must not hold two keys of the same `kid`')
  }

  get keys(): Iterable<Key> {
    return this.#keys.values()
  }

  /**
   * The key for a header: by its `kid` from this table and nowhere else, and only for the algorithm the key was made for,
   * which rules out `none` and an RSA key used as an HMAC secret (RFC 8725 §3.1). A token without `kid` is for a ring
   * of one.
   */
  find({ kid, alg }: Header): Key | undefined {
    const key = kid === undefined && this.#keys.size === 1 ? this.signing : this.#keys.get(kid as string)
    return key?.algorithm === alg ? key : undefined
  }
}

/** Keys from plain secrets. Each is named by its fingerprint, so that rotating the secret changes the `kid` as well. */
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

function load(given: JwtKey, index: number): Key {
  const name = `jwt.keys[${index}]`
  const { kid, secret, privateKey, publicKey, algorithm } = resolveOptions<JwtKey>(name, shapes, given)
  if (kid === undefined) throw invalid(name, 'must have a `kid`')
  if (secret !== undefined) {
    if (privateKey !== undefined || publicKey !== undefined)
      throw invalid(name, 'must hold a secret or PEM keys, not both')
    // A public key that serves as a secret is the other half of HS/RS confusion: everybody could sign.
    if (secret.includes('-----BEGIN'))
      throw invalid(`${name}.secret`, 'is a PEM: it belongs in privateKey or publicKey')
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
  if (pem === undefined) throw invalid(name, 'must hold a `secret`, a `privateKey` or a `publicKey`')
  const verify = parse(`${name}.publicKey`, pem, createPublicKey)
  if (sign && publicKey !== undefined && !createPublicKey(sign).equals(verify))
    throw invalid(name, 'has a `publicKey` that is not the other half of its `privateKey`')
  return { kid, algorithm: suited(name, verify, algorithm), sign, verify }
}

/** The algorithms a public key can serve (RFC 7518 §3.1), the default first. */
function suited(name: string, key: KeyObject, wanted: Algorithm | undefined): Algorithm {
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {}
  const curves: Record<string, Algorithm[]> = { prime256v1: ['ES256'], secp384r1: ['ES384'], secp521r1: ['ES512'] }
  const able = key.asymmetricKeyType === 'rsa' ? algorithms.filter((a) => /^[RP]S/.test(a)) : (curves[namedCurve] ?? [])
  if (able.length === 0) throw invalid(name, 'must be an RSA key, or an EC key on P-256, P-384 or P-521')
  if (able.includes('RS256') && modulusLength < 2048)
    throw new FleetError('FLEET_ERR_SECRET_WEAK', `\`${name}\` is an RSA key of ${modulusLength} bits, but needs 2048`)
  const chosen = wanted ?? (able[0] as Algorithm)
  if (!able.includes(chosen)) throw invalid(`${name}.algorithm`, `must be ${able.join(', ')} for this key`)
  return chosen
}

function parse(name: string, pem: string, read: (pem: string) => KeyObject): KeyObject {
  try {
    return read(pem)
  } catch {
    throw invalid(name, 'must be a key in PEM form, unencrypted') // OpenSSL's own message may hold parts of the key.
  }
}

const invalid = (name: string, rule: string): FleetError =>
  new FleetError('FLEET_ERR_OPTION_INVALID', `\`${name}\` ${rule}`)
