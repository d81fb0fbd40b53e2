import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import { clientKey } from '../../instance/client-key.ts'
import type { AnonymousOptions } from './options.ts'

const windowMs = 60_000

/**
 * How many sessions the clients of this process have begun in this minute without a login. It is counted here and not in
 * Redis, because under attack it must cost nothing. By the monotonic clock, so that no change of the time opens it.
 */
export class NewSessions {
  readonly #limits: Required<AnonymousOptions>
  readonly #log: Pick<FastifyBaseLogger, 'warn'>
  readonly #refusals: { anonymous: number }
  /** Never more entries than `totalPerMinute`: only a client that is admitted gets one. */
  readonly #clients = new Map<string, number>()
  /** A request counts once, however often it is asked about. */
  readonly #requests = new WeakMap<FastifyRequest, boolean>()
  #total = 0
  #ends = 0
  #warned = false

  constructor(
    limits: Required<AnonymousOptions>,
    log: Pick<FastifyBaseLogger, 'warn'>,
    refusals: { anonymous: number },
  ) {
    this.#limits = limits
    this.#log = log
    this.#refusals = refusals
  }

  /** Whether the client of a request may begin one more session. */
  admits(request: FastifyRequest): boolean {
    let isAdmitted = this.#requests.get(request)
    if (isAdmitted === undefined) {
      isAdmitted = this.#count(request)
      this.#requests.set(request, isAdmitted)
    }
    return isAdmitted
  }

  #count(request: FastifyRequest): boolean {
    // Without a connection it is the app itself that asks, by `app.decryptSession()`.
    if (!request.socket) return true
    const now = performance.now()
    if (now >= this.#ends) this.#begin(now)
    const key = clientKey(request)
    const count = this.#clients.get(key) ?? 0
    const isFull = this.#total >= this.#limits.totalPerMinute
    if (isFull || count >= this.#limits.perMinute) return this.#refuse(isFull ? undefined : key)
    this.#clients.set(key, count + 1)
    this.#total++
    return true
  }

  #begin(now: number): void {
    this.#clients.clear()
    this.#total = 0
    this.#ends = now + windowMs
    this.#warned = false
  }

  #refuse(client: string | undefined): false {
    this.#refusals.anonymous++
    if (this.#warned) return false
    this.#warned = true
    const whose = client === undefined ? 'the clients together' : `the client ${client}`
    const option = client === undefined ? 'totalPerMinute' : 'perMinute'
    this.#log.warn(
      `session: new sessions without a login are not kept for the rest of this minute, because ${whose} began ` +
        `${this.#limits[option]} (\`session.anonymous.${option}\`); when one address stands for many clients, set TRUST_PROXY`,
    )
    return false
  }
}
