import type { FastifyRequest } from 'fastify'
import type { StoredCookie } from './cookie.ts'
import type { Data } from './loaded.ts'
import type { Backing } from './sessions.ts'
import type { Signer } from './signer.ts'

/** Whether a session is going to be kept: for plugins that would put something of their own into it. */
export const isKept: unique symbol = Symbol.for('fleet.session.isKept')

/** What the sessions of one app have in common. */
export interface Terms {
  readonly backing: Backing
  readonly signer: Signer
  readonly newId: (request: FastifyRequest) => string
  readonly cookieName: string
  readonly cookiePrefix: string
  readonly cookie: StoredCookie
  /** Of a session that begins. */
  readonly newCookie: StoredCookie
  readonly rolling: boolean
  readonly saveUninitialized: boolean
  readonly ttlMs: number
  readonly touchAfterMs: number
  /** Whether a client may begin one more session without a login; `undefined`: always. */
  readonly admits?: (request: FastifyRequest) => boolean
  /** Whether somebody has logged in to a session with this data. */
  readonly isAuthenticated: (data: Data) => boolean
  /** Told whenever a `Secure` cookie is held back from a client that did not come over TLS. */
  readonly insecure: () => void
}

/** After how long a visit prolongs the life of a session with this cookie, ms: the same share of a shorter life. */
export function touchAfterOf({ ttlMs, touchAfterMs }: Terms, { anonymous }: StoredCookie): number {
  return anonymous === undefined ? touchAfterMs : Math.min(touchAfterMs, (touchAfterMs / ttlMs) * anonymous)
}

/** The cookie a client sent, once its signature was found good. */
export interface Ticket {
  readonly id: string
  readonly signed: string
  /** Signed with an older secret. */
  readonly renew: boolean
}
