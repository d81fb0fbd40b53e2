import { Signer as Hmac } from '@fastify/cookie'
import type { FastifyInstance } from 'fastify'
import { detached } from '../../base/detached.ts'
import { readEnv } from '../../base/env.ts'
import { FleetError, type FleetErrorCode } from '../../base/errors.ts'
import { show } from '../../base/options.ts'
import { sharedSecret } from '../redis/index.ts'

/** Signs the id of a session for its cookie. The signer of `@fastify/cookie` has this interface. */
export interface Signer {
  sign(value: string): string
  unsign(signed: string): Unsigned
}

export interface Unsigned {
  valid: boolean
  /** Whether it was signed with an older secret. */
  renew: boolean
  value: string | null
}

/** A cookie whose signature was verified. */
export interface VerifiedCookie {
  readonly id: string
  readonly signed: string
  /** Whether it was signed with an older secret, so that the client gets a new cookie. */
  readonly renew: boolean
}

/** The option `secret`. */
export type Secret = string | string[] | Signer

const maxCached = 10_000

/** The HMAC signer of `@fastify/cookie` with a cache of verified signatures. */
export class CookieSigner implements Signer {
  readonly #secrets: readonly string[]
  readonly #algorithm: string
  /** By the end of the signature, because hashing a whole cookie costs more. */
  readonly #verified = new Map<string, { readonly signed: string; readonly unsigned: Unsigned }>()
  /** The secrets that {@link #hmac} was created with. */
  #used: string[] = []
  #hmac: Signer

  /** @param secrets the first signs, all verify; changes of the list take effect at once */
  constructor(secrets: readonly string[], algorithm: string) {
    this.#secrets = secrets
    this.#algorithm = algorithm
    this.#hmac = this.#create()
  }

  sign(value: string): string {
    return this.#current().sign(value)
  }

  unsign(signed: string): Unsigned {
    const hmac = this.#current()
    const key = signed.slice(-24)
    const cached = this.#verified.get(key)
    if (cached?.signed === signed) return cached.unsigned
    const own = detached(signed)
    const unsigned = hmac.unsign(own)
    if (unsigned.valid) {
      for (const oldest of this.#verified.keys()) {
        if (this.#verified.size < maxCached) break
        this.#verified.delete(oldest)
      }
      this.#verified.set(detached(key), { signed: own, unsigned })
    }
    return unsigned
  }

  #current(): Signer {
    const secrets = this.#secrets
    const used = this.#used
    let isSame = secrets.length === used.length
    for (let i = 0; isSame && i < used.length; i++) isSame = secrets[i] === used[i]
    if (!isSame) this.#hmac = this.#create()
    return this.#hmac
  }

  #create(): Signer {
    this.#used = [...this.#secrets]
    this.#verified.clear()
    return new Hmac(this.#used, this.#algorithm) as Signer
  }
}

const minBytes = 32
const fix = 'generate one with: openssl rand -hex 32'

/** The exact messages of @fastify/session, so that log searches and tests written for it still match. */
const messages = {
  required:
    'the secret option is required, and must be a String, Array of Strings, or a signer object with .sign and .unsign methods',
  none: 'at least one secret is required',
  short: 'the secret must have length 32 or greater',
}

/** An error with a message of @fastify/session. Its cause names the value and the fix, and is logged with it. */
const rejection = (code: FleetErrorCode, message: string, detail: string): FleetError =>
  new FleetError(code, undefined, { message, cause: new FleetError(code, detail) })

const isSigner = (given: unknown): given is Signer => {
  const { sign, unsign } = (given ?? {}) as Partial<Signer>
  return typeof sign === 'function' && typeof unsign === 'function'
}
const isList = (given: unknown): given is string[] =>
  Array.isArray(given) && given.length > 0 && given.every((secret) => typeof secret === 'string' && secret !== '')

/**
 * The secret of the umbrella plugin. A short secret is rejected wherever it comes from. Outside production the fleet
 * generates and shares one if none is configured.
 *
 * @returns a value that is not text unchanged: {@link createSigner} validates it
 * @throws FLEET_ERR_SECRET_WEAK, FLEET_ERR_SECRET_MISSING
 */
export async function fleetSecret(app: FastifyInstance, given: Secret | undefined): Promise<Secret> {
  if (given !== undefined && typeof given !== 'string' && !isList(given)) return given
  const shared = await sharedSecret(app, 'SESSION_SECRET', given ?? readEnv().SESSION_SECRET)
  return given ?? shared
}

/**
 * The signer for the option `secret`. It accepts what @fastify/session accepts, except short secrets in a list in
 * production, and short secrets from the environment.
 *
 * @throws FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK, FLEET_ERR_OPTION_INVALID
 */
export async function createSigner(app: FastifyInstance, given: unknown, algorithm: string): Promise<Signer> {
  if (isSigner(given)) return given
  const { SESSION_SECRET } = readEnv()
  const isFromEnv = given === undefined && SESSION_SECRET !== undefined
  const secrets = isFromEnv ? await sharedSecret(app, 'SESSION_SECRET', SESSION_SECRET) : checkSecrets(app, given)
  return new CookieSigner(secrets, algorithm)
}

/** @returns the list itself, because its secrets may change later, like those that a fleet shares */
function checkSecrets(app: FastifyInstance, given: unknown): readonly string[] {
  if (given === undefined) {
    const detail = `set \`session.secret\` or SESSION_SECRET, the same on every instance; ${fix}`
    throw rejection('FLEET_ERR_SECRET_MISSING', messages.required, detail)
  }
  const secrets = typeof given === 'string' ? [given] : given
  if (!isList(secrets)) {
    const isEmpty = Array.isArray(given) && given.length === 0
    const detail = `\`session.secret\` must be a string, a list of strings, or { sign, unsign }, but it is ${show(given)}`
    throw rejection('FLEET_ERR_OPTION_INVALID', isEmpty ? messages.none : messages.required, detail)
  }
  const bytes = Math.min(...secrets.map((secret) => Buffer.byteLength(secret)))
  if (bytes < minBytes) {
    const detail = `\`session.secret\` contains a secret of ${bytes} bytes, but needs ${minBytes}; ${fix}`
    if (secrets !== given || readEnv().production) throw rejection('FLEET_ERR_SECRET_WEAK', messages.short, detail)
    app.log.warn(`session: ${detail}; it is rejected in production`)
  }
  return secrets
}
