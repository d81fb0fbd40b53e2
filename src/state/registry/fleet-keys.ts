import { createHmac, createSecretKey, hkdfSync, type KeyObject, timingSafeEqual } from 'node:crypto'
import type { FastifyFleet, FastifyInstance } from 'fastify'
import { type FleetEnv, readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { sharedSecret } from '../redis/index.ts'

/**
 * Signs and verifies data that the instances of a fleet exchange through Redis, with HMAC-SHA-256. The keys are derived from the
 * fleet's secrets by HKDF, with the purpose and the name of the fleet as the label, so a signature is valid for one purpose and
 * one fleet only. The first secret signs, all verify.
 */
export class FleetKeys {
  readonly #secrets: readonly string[]
  readonly #label: string
  #derivedFrom = ''
  #keys: readonly KeyObject[] = []
  #generation = 0

  /** @param secrets a list that may change later, see {@link sharedSecret} */
  constructor(secrets: readonly string[], purpose: string, fleetName: string) {
    this.#secrets = secrets
    this.#label = `fastify-fleet ${purpose} 1 ${fleetName}`
  }

  /** Changes with the secrets: an entry that was rejected before may be valid now. */
  get generation(): number {
    this.#derive()
    return this.#generation
  }

  /** @returns 43 characters of base64url; empty while there is no secret */
  sign(...parts: readonly string[]): string {
    const [key] = this.#derive()
    return key ? mac(key, parts).toString('base64url') : ''
  }

  verify(signature: string, ...parts: readonly string[]): boolean {
    const given = Buffer.from(signature, 'base64url')
    return this.#derive().some((key) => given.length === macBytes && timingSafeEqual(given, mac(key, parts)))
  }

  #derive(): readonly KeyObject[] {
    const from = this.#secrets.join('\n')
    if (from === this.#derivedFrom) return this.#keys
    this.#derivedFrom = from
    this.#generation++
    this.#keys = this.#secrets.map((secret) =>
      createSecretKey(Buffer.from(hkdfSync('sha256', secret, '', this.#label, macBytes))),
    )
    return this.#keys
  }
}

const macBytes = 32
/** Length of a signature as text. */
export const signatureLength = 43

/** Each part is preceded by its length, so that two different lists never have the same input. */
function mac(key: KeyObject, parts: readonly string[]): Buffer {
  const hmac = createHmac('sha256', key)
  for (const part of parts) hmac.update(`${part.length}:`).update(part)
  return hmac.digest()
}

/** The secrets of the environment, with the name of their variable. */
export function secretsOf(env: FleetEnv): readonly [name: string, secrets: readonly string[]] | undefined {
  if (env.FLEET_SECRET) return ['FLEET_SECRET', env.FLEET_SECRET]
  if (env.SESSION_SECRET) return ['SESSION_SECRET', env.SESSION_SECRET]
  return env.JWT_SECRET === undefined ? undefined : ['JWT_SECRET', [env.JWT_SECRET]]
}

/** Without a secret the instances share a generated one under this name, as the session plugin does. */
export const sharedName = 'SESSION_SECRET'

/** @param reason why a secret is needed */
export const secretMissing = (reason: string): FleetError =>
  new FleetError(
    'FLEET_ERR_SECRET_MISSING',
    `${reason}: set SESSION_SECRET, or FLEET_SECRET for this only, to the same value on every instance: openssl rand -hex 32`,
  )

const known = new WeakMap<FastifyFleet, readonly string[]>()

/**
 * Resolves the secrets of a fleet once per app.
 *
 * @param given the secrets of an option, with its name
 * @throws FLEET_ERR_SECRET_WEAK, and FLEET_ERR_SECRET_MISSING in production
 */
export async function fleetSecrets(
  app: FastifyInstance,
  given?: readonly [name: string, secrets: string | readonly string[]],
): Promise<readonly string[]> {
  const before = known.get(app.fleet)
  if (before) return before
  const env = readEnv()
  const [name, secrets] = given ?? secretsOf(env) ?? []
  if (name === undefined && env.production) throw secretMissing('registry entries and broadcast messages are signed')
  const all = await sharedSecret(app, name ?? sharedName, secrets)
  known.set(app.fleet, all)
  return all
}
