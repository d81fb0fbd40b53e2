import type { FastifyRequest } from 'fastify'
import { cookieValues } from '../../base/cookies.ts'
import { detached } from '../../base/detached.ts'
import { FleetError } from '../../base/errors.ts'
import type { SecretToken } from '../../base/operator-access.ts'
import { linkLifetimeMs, type Ticket, type Tickets } from './tickets.ts'

/**
 * Marks the code of a link as used.
 *
 * @returns false if it was used before
 */
export type ConsumeCode = (ticket: Ticket) => Promise<boolean>

export const cookieName = 'fleet_operator'

/** Window in which the failed attempts of a client are counted, ms. */
const windowMs = 60_000
const maxFailures = 10
const maxClients = 10_000

/** Exchanges the operators' token, or the code of a one-time link, for an expiring cookie. */
export class SignIn {
  readonly #token: SecretToken
  readonly #tickets: Tickets
  readonly #sessionMs: number
  readonly #failures = new Map<string, { count: number; until: number }>()
  /** Paths to which a browser sends the cookie: those of operators, none of the application. */
  readonly #paths = new Set<string>()
  #consume: ConsumeCode = onceInThisProcess()

  constructor(token: SecretToken, tickets: Tickets, sessionMs: number) {
    this.#token = token
    this.#tickets = tickets
    this.#sessionMs = sessionMs
  }

  addPath(path: string): void {
    this.#paths.add(path)
  }

  /** Replaces the per-process record of used codes with a shared one. */
  consumeWith(consume: ConsumeCode): void {
    this.#consume = consume
  }

  /** Whether the request carries a valid cookie. */
  verify({ headers: { cookie } }: Pick<FastifyRequest, 'headers'>): boolean {
    return cookieValues(cookie, cookieName).some((value) => this.#tickets.verify('session', value) !== undefined)
  }

  /**
   * @param client key of the client, for counting failed attempts
   * @returns `Set-Cookie` values
   * @throws FLEET_ERR_SIGN_IN_FAILED, FLEET_ERR_RATE_LIMITED, and FLEET_ERR_STATE_UNAVAILABLE if the record of used codes
   *   is unavailable
   */
  async signIn(client: string, given: { token?: string; code?: string }, secure: boolean): Promise<string[]> {
    this.#assertNotLimited(client)
    if (!(await this.#accepts(given))) {
      this.#countFailure(client)
      throw new FleetError('FLEET_ERR_SIGN_IN_FAILED')
    }
    this.#failures.delete(client)
    return this.#cookies(this.#tickets.issue('session', this.#sessionMs), Math.floor(this.#sessionMs / 1_000), secure)
  }

  /** @returns `Set-Cookie` values that delete the cookies */
  signOut(secure: boolean): string[] {
    return this.#cookies('', 0, secure)
  }

  async #accepts({ token, code }: { token?: string; code?: string }): Promise<boolean> {
    if (token !== undefined) return this.#token.equals(token)
    const ticket = this.#tickets.verify('link', code ?? '')
    return ticket !== undefined && (await this.#consume(ticket))
  }

  #cookies(value: string, maxAge: number, secure: boolean): string[] {
    const end = `Max-Age=${maxAge}; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`
    return [...this.#paths].map((path) => `${cookieName}=${value}; Path=${path}; ${end}`)
  }

  #assertNotLimited(key: string): void {
    const failures = this.#failures.get(key)
    const left = (failures?.until ?? 0) - Date.now()
    if (failures === undefined || left <= 0 || failures.count < maxFailures) return
    throw new FleetError('FLEET_ERR_RATE_LIMITED', 'too many failed sign-in attempts', {
      retryAfter: Math.ceil(left / 1_000),
    })
  }

  #countFailure(key: string): void {
    const failures = this.#failures.get(key)
    if (failures && failures.until > Date.now()) {
      failures.count++
      return
    }
    this.#failures.delete(key)
    for (const oldest of this.#failures.keys()) {
      if (this.#failures.size < maxClients) break
      this.#failures.delete(oldest)
    }
    this.#failures.set(detached(key), { count: 1, until: Date.now() + windowMs })
  }
}

/**
 * Without shared state, each process accepts a code once. A code that is older than the process is rejected, because a
 * previous process may have accepted it.
 */
function onceInThisProcess(): ConsumeCode {
  const since = Date.now()
  const used = new Map<string, number>()
  return async ({ id, issuedAt, expiresAt }) => {
    for (const [old, until] of used) if (until <= Date.now()) used.delete(old)
    if (issuedAt <= since || expiresAt > Date.now() + linkLifetimeMs || used.has(id)) return false
    used.set(id, expiresAt)
    return true
  }
}
