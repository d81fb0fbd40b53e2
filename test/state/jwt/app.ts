import { generateKeyPairSync, type KeyPairKeyObjectResult } from 'node:crypto'
import { after } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import jsonwebtoken from 'jsonwebtoken'
import identity from '../../../src/instance/identity.ts'
import { metrics } from '../../../src/instance/metrics/index.ts'
import jwt, { type JwtOptions } from '../../../src/state/jwt/index.ts'
import redis, { type RedisOptions } from '../../../src/state/redis/index.ts'
import { patient, patientApp } from '../redis/patience.ts'
import { secret } from './contract.ts'

export interface Pem {
  privateKey: string
  publicKey: string
}
export const asPem = ({ privateKey, publicKey }: KeyPairKeyObjectResult): Pem => ({
  privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
})
export const rsaPair = (modulusLength: number): Pem => asPem(generateKeyPairSync('rsa', { modulusLength }))
export const ecPair = (namedCurve: string): Pem => asPem(generateKeyPairSync('ec', { namedCurve }))
export const rsa = rsaPair(2048)
export const ec = ecPair('P-256')

export const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

export async function build(
  url: string | null,
  options: JwtOptions = {},
  name = 'fleet',
  where: RedisOptions = {},
): Promise<FastifyInstance> {
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(identity, { name })
  await app.register(metrics)
  await app.register(redis, url === null ? { client: null } : { url, ...patient, ...where })
  await app.register(jwt, options.keys ? options : { secret, ...options })
  return app
}

/** A token that this fleet has not issued. */
export const forge = (claims: object, key: jsonwebtoken.Secret, options: jsonwebtoken.SignOptions = {}): string =>
  jsonwebtoken.sign({ iss: 'fleet', sub: 'ann', ...claims }, key, { expiresIn: 60, ...options })
export const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
export const now = (): number => Math.floor(Date.now() / 1000)
