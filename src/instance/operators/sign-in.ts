import type { FastifyRequest } from 'fastify'
import { FleetError } from '../../base/errors.ts'
import type { SecretToken } from '../../base/operator-access.ts'
import { linkLifetimeMs, type Ticket, type Tickets } from './tickets.ts'

/**
 * Remembers that the code of a link has been used.
 *
 * @returns false when it had been used before
 */
export type ConsumeCode = (ticket: Ticket) => Promise<boolean>

export const cookieName = 'fleet_operator'
/** More cookies of one name than this are not looked at. */
const mostCookies = 4

/** Failed attempts of one client in this time, ms, after which it has to wait. */
const windowMs = 60_000
const mostFailures = 10
const mostClients = 10_000

/** Turns the operators' token, or the code of a one-time link, into a cookie that expires. */
export class SignIn {
  readonly #token: SecretToken
  readonly #tickets: Tickets
  readonly #sessionMs: number
  readonly #failures = new Map<string, { count: number; until: number }>()
  /** Where a browser sends the cookie: the operators' paths, and no path of the application. */
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

  /** Lets all instances of a fleet agree on which codes have been used. */
  consumeWith(consume: ConsumeCode): void {
    this.#consume = consume
  }

  /** Whether the request carries a valid cookie. */
  verify({ headers: { cookie } }: Pick<FastifyRequest, 'headers'>): boolean {
    if (cookie === undefined || !cookie.includes(cookieName)) return false
    const values = cookie.split(';').flatMap((pair) => {
      const [name, value = ''] = pair.split('=', 2)
      return name?.trim() === cookieName ? [value.trim()] : []
    })
    return values.slice(0, mostCookies).some((value) => this.#tickets.verify('session', value) !== undefined)
  }

  /**
   * @param client the key of the client whose attempts are counted
   * @returns the cookies that sign the client in
   * @throws FLEET_ERR_SIGN_IN_FAILED, FLEET_ERR_RATE_LIMITED, and FLEET_ERR_STATE_UNAVAILABLE when it cannot be known
   *   whether a code has been used
   */
  async enter(client: string, given: { token?: string; code?: string }, secure: boolean): Promise<string[]> {
    this.#assertMayTry(client)
    if (!(await this.#accepts(given))) {
      this.#countFailure(client)
      throw new FleetError('FLEET_ERR_SIGN_IN_FAILED')
    }
    this.#failures.delete(client)
    return this.#cookies(this.#tickets.issue('session', this.#sessionMs), Math.floor(this.#sessionMs / 1_000), secure)
  }

  /** The cookies that sign a browser out. */
  leave(secure: boolean): string[] {
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

  #assertMayTry(key: string): void {
    const failures = this.#failures.get(key)
    const left = (failures?.until ?? 0) - Date.now()
    if (failures === undefined || left <= 0 || failures.count < mostFailures) return
    throw new FleetError('FLEET_ERR_RATE_LIMITED', 'too many failed attempts to sign in', {
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
      if (this.#failures.size < mostClients) break
      this.#failures.delete(oldest)
    }
    this.#failures.set(key, { count: 1, until: Date.now() + windowMs })
  }
}

/**
 * Without shared state a code is used once in each process. One that is older than the process could have been used with
 * its predecessor.
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
