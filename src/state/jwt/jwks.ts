import type { JsonWebKey } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { ownRoute } from '../../instance/own-routes.ts'
import type { KeyRing, LoadedKey } from './keys.ts'

/** How long clients may cache the keys. A new key must be published this long before it signs. */
const maxAgeSeconds = 300

/** `n` and `e` of an RSA key; `crv`, `x` and `y` of an EC key. */
const names = ['kty', 'use', 'kid', 'alg', 'n', 'e', 'crv', 'x', 'y']
const members = Object.fromEntries(names.map((name) => [name, { type: 'string' }]))
const schema = {
  summary: 'Public keys for verifying tokens (RFC 7517)',
  response: {
    200: { type: 'object', properties: { keys: { type: 'array', items: { type: 'object', properties: members } } } },
  },
}

/** Copies each member by name, so that no private one is ever included; `undefined` for a secret. */
function publicJwk({ kid, algorithm: alg, verify }: LoadedKey): JsonWebKey | undefined {
  if (verify.type !== 'public') return undefined
  const { kty = '', n, e, crv, x, y } = verify.export({ format: 'jwk' })
  return { kty, use: 'sig', kid, alg, n, e, crv, x, y }
}

/** Publishes the public keys of a ring, if it has any, so that other services can verify its tokens. */
export function serveKeys(app: FastifyInstance, path: string, ring: KeyRing): void {
  const keys = [...ring.keys].map(publicJwk).filter((jwk) => jwk !== undefined)
  if (keys.length === 0) return
  const config = { rateLimit: false, session: false } as const
  app.get(path, { ...ownRoute(schema), config }, async (_request, reply) => {
    reply.header('cache-control', `public, max-age=${maxAgeSeconds}`)
    return { keys }
  })
}
