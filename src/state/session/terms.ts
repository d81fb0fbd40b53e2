import type { FastifyRequest } from 'fastify'
import type { StoredCookie } from './cookie.ts'
import type { Backing } from './sessions.ts'
import type { Signer } from './signer.ts'

/** What the sessions of one app have in common. */
export interface Terms {
  readonly backing: Backing
  readonly signer: Signer
  readonly newId: (request: FastifyRequest) => string
  readonly cookieName: string
  readonly cookiePrefix: string
  readonly cookie: StoredCookie
  readonly rolling: boolean
  readonly saveUninitialized: boolean
  readonly touchAfterMs: number
  /** Told whenever a `Secure` cookie is held back from a client that did not come over TLS. */
  readonly insecure: () => void
}

/** The cookie a client sent, once its signature was found good. */
export interface Ticket {
  readonly id: string
  readonly signed: string
  /** Signed with an older secret. */
  readonly renew: boolean
}
