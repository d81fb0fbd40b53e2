import type { FastifyInstance } from 'fastify'
import { readEnv } from '../../base/env.ts'
import { FleetError, type FleetErrorCode } from '../../base/errors.ts'
import { show } from '../../base/options.ts'
import { sharedSecret } from '../redis/index.ts'
import { CookieSigner, type Signer } from './signer.ts'

export type Secret = string | string[] | Signer

const minBytes = 32
const mend = 'make one with: openssl rand -hex 32'

/** Those of @fastify/session, to the letter: who looks for them in a log, or in a test, finds them. */
const words = {
  required:
    'the secret option is required, and must be a String, Array of Strings, or a signer object with .sign and .unsign methods',
  none: 'at least one secret is required',
  short: 'the secret must have length 32 or greater',
}

/** In the words of @fastify/session; what is there instead, and the mend, is its cause, which is logged with it. */
const refusal = (code: FleetErrorCode, message: string, detail: string): FleetError =>
  new FleetError(code, undefined, { message, cause: new FleetError(code, detail) })

const isSigner = (given: unknown): given is Signer => {
  const { sign, unsign } = (given ?? {}) as Partial<Signer>
  return typeof sign === 'function' && typeof unsign === 'function'
}
const isList = (given: unknown): given is string[] =>
  Array.isArray(given) && given.length > 0 && given.every((secret) => typeof secret === 'string' && secret !== '')

/**
 * The secret of a whole fleet: a short one is refused wherever it comes from, and outside production one is made up where
 * none is given.
 *
 * @returns what was given, where that is no text for {@link signerOf} to judge
 * @throws FLEET_ERR_SECRET_WEAK, FLEET_ERR_SECRET_MISSING
 */
export async function fleetSecret(app: FastifyInstance, given: Secret | undefined): Promise<Secret> {
  if (given !== undefined && typeof given !== 'string' && !isList(given)) return given
  const shared = await sharedSecret(app, 'SESSION_SECRET', given ?? readEnv().SESSION_SECRET)
  return given ?? shared
}

/**
 * What signs cookies where the plugin is registered by itself. It takes what @fastify/session takes, but in production a
 * short secret no more in a list than alone. The environment's is never short.
 *
 * @throws FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK, FLEET_ERR_OPTION_INVALID
 */
export async function signerOf(app: FastifyInstance, given: unknown, algorithm: string): Promise<Signer> {
  if (isSigner(given)) return given
  const { SESSION_SECRET } = readEnv()
  const isFromEnv = given === undefined && SESSION_SECRET !== undefined
  const secrets = isFromEnv ? await sharedSecret(app, 'SESSION_SECRET', SESSION_SECRET) : checked(app, given)
  return new CookieSigner(secrets, algorithm)
}

/** @returns the list itself: its secrets may be changed later, as those of a fleet that has to agree on one */
function checked(app: FastifyInstance, given: unknown): readonly string[] {
  if (given === undefined) {
    const detail = `set \`session.secret\` or SESSION_SECRET, the same on every instance; ${mend}`
    throw refusal('FLEET_ERR_SECRET_MISSING', words.required, detail)
  }
  const secrets = typeof given === 'string' ? [given] : given
  if (!isList(secrets)) {
    const isEmpty = Array.isArray(given) && given.length === 0
    const detail = `\`session.secret\` must be a string, a list of such, or { sign, unsign }, but it is ${show(given)}`
    throw refusal('FLEET_ERR_OPTION_INVALID', isEmpty ? words.none : words.required, detail)
  }
  const bytes = Math.min(...secrets.map((secret) => Buffer.byteLength(secret)))
  if (bytes < minBytes) {
    const detail = `\`session.secret\` has one of ${bytes} bytes, but needs ${minBytes}; ${mend}`
    if (secrets !== given || readEnv().production) throw refusal('FLEET_ERR_SECRET_WEAK', words.short, detail)
    app.log.warn(`session: ${detail}; production refuses it`)
  }
  return secrets
}
