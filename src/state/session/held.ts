import type { FastifyRequest } from 'fastify'
import { isDue } from './cookie.ts'
import type { Loaded } from './loaded.ts'
import { Session } from './session.ts'
import { type Terms, type Ticket, touchAfterOf } from './terms.ts'

/** The session of a request to whose handler it has not mattered yet: a `Session` is made when somebody looks. */
export class Unopened {
  readonly #terms: Terms
  readonly #ticket: Ticket | undefined
  readonly #loaded: Loaded | undefined

  /** Without the last two, a new session. */
  constructor(terms: Terms, ticket?: Ticket, loaded?: Loaded) {
    this.#terms = terms
    this.#ticket = ticket
    this.#loaded = loaded
  }

  /** Whether there is something to save or to tell the client though nobody has looked. */
  get isDue(): boolean {
    if (!this.#loaded) return false
    const { cookie = {} } = this.#loaded
    const terms = this.#terms
    return terms.rolling || this.#ticket?.renew === true || isDue(cookie, touchAfterOf(terms, cookie))
  }

  open(request: FastifyRequest): Session {
    return new Session(this.#terms, request, this.#ticket, this.#loaded)
  }
}

/** What `request.session` is, or is to become. */
export type Held = Session | Unopened | object | null

const key = Symbol('fleet.session')
type Holding = { [key]: Held }

/** `request.session` of an app. */
export const sessionDecorators = {
  key,
  session: {
    getter(this: FastifyRequest): object | null {
      const state = heldBy(this)
      if (!(state instanceof Unopened)) return state
      const session = state.open(this)
      hold(this, session)
      return session
    },
    setter(this: FastifyRequest, session: object | null): void {
      hold(this, session)
    },
  },
} as const

export function hold(request: FastifyRequest, state: Held): void {
  ;(request as unknown as Holding)[key] = state
}

export const heldBy = (request: FastifyRequest): Held => (request as unknown as Holding)[key]
