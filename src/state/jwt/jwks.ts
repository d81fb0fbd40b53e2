import type { FastifyInstance } from 'fastify'
import { ownRoute } from '../../instance/own-routes.ts'
import type { Key, KeyRing } from './keys.ts'

/** A public key as RFC 7517 writes it: `n` and `e` of an RSA key, `crv`, `x` and `y` of an EC key. */
export interface PublicJwk {
  readonly kty: string
  readonly use: 'sig'
  readonly kid: string
  readonly alg: string
  readonly n?: string
  readonly e?: string
  readonly crv?: string
  readonly x?: string
  readonly y?: string
}

/** How long others may keep the keys, s: a new key is published this long before it is the first to sign. */
const maxAge = 300

const string = { type: 'string' } as const
const members = Object.fromEntries(
  ['kty', 'use', 'kid', 'alg', 'n', 'e', 'crv', 'x', 'y'].map((name) => [name, string]),
)
const schema = {
  summary: 'The public keys that tokens are verified with (RFC 7517)',
  response: {
    200: { type: 'object', properties: { keys: { type: 'array', items: { type: 'object', properties: members } } } },
  },
}

/** Each member by name, so that no private one can ever slip in; `undefined` for a secret, which has no public half. */
function publicJwk({ kid, algorithm: alg, verify }: Key): PublicJwk | undefined {
  if (verify.type !== 'public') return undefined
  const { kty = '', n, e, crv, x, y } = verify.export({ format: 'jwk' })
  return { kty, use: 'sig', kid, alg, n, e, crv, x, y }
}

/** Serves the public keys of a ring that has any, so that other services can verify its tokens. */
export function serveKeys(app: FastifyInstance, path: string, ring: KeyRing): void {
  const keys = [...ring.keys].map(publicJwk).filter((jwk) => jwk !== undefined)
  if (keys.length === 0) return
  const config = { rateLimit: false, session: false } as const
  app.get(path, { ...ownRoute, config, schema }, async (_request, reply) => {
    reply.header('cache-control', `public, max-age=${maxAge}`)
    return { keys }
  })
}
