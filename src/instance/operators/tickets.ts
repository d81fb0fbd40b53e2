import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'

/** `session`: the value of a sign-in cookie. `link`: the code of a link that signs in once. */
export type TicketKind = 'session' | 'link'

export interface Ticket {
  /** Unique id of the ticket. */
  readonly id: string
  /** Milliseconds since 1970. */
  readonly issuedAt: number
  readonly expiresAt: number
}

/** Lifetime of a one-time sign-in link, ms. */
export const linkLifetimeMs: number = 5 * 60_000

const format = /^([\da-z]{1,11})\.([\da-z]{1,11})\.([\w-]{22})\.([\w-]{43})$/

/**
 * Expiring values that are signed with a key derived from the operators' token. Every instance with the same token accepts
 * them without shared state, and a new token invalidates all of them.
 */
export class Tickets {
  readonly #key: Buffer

  constructor(token: string) {
    this.#key = Buffer.from(hkdfSync('sha256', token, '', 'fastify-fleet operators 1', 32))
  }

  issue(kind: TicketKind, lifetimeMs: number): string {
    const now = Date.now()
    const body = [now.toString(36), (now + lifetimeMs).toString(36), randomBytes(16).toString('base64url')].join('.')
    return `${body}.${this.#signature(kind, body)}`
  }

  /** @returns undefined for text that is expired, of another kind, or not issued with this token */
  verify(kind: TicketKind, text: string): Ticket | undefined {
    const [, issued = '', expires = '', id = '', signature = ''] = format.exec(text) ?? []
    if (signature === '') return undefined
    const expected = this.#signature(kind, `${issued}.${expires}.${id}`)
    if (!timingSafeEqual(Buffer.from(signature), Buffer.from(expected))) return undefined
    const expiresAt = Number.parseInt(expires, 36)
    return expiresAt > Date.now() ? { id, issuedAt: Number.parseInt(issued, 36), expiresAt } : undefined
  }

  #signature(kind: TicketKind, body: string): string {
    return createHmac('sha256', this.#key).update(`${kind}:${body}`).digest('base64url')
  }
}
