import { createHmac, timingSafeEqual } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Reader, Router } from './router.ts'

/** What the requests of one app have in common. */
export interface OwnWritesTerms {
  readonly router: Router
  /** The first signs, all verify. */
  readonly secrets: readonly string[]
  readonly cookieName: string
  readonly cookie: { readonly secure: boolean | 'auto' }
  /** How long a position is kept, ms. By then every replica that is still in use has replayed it. */
  readonly keepMs: number
}

/** The field of a session. */
const field = 'walPosition'
type Fields = Record<string, unknown> & { save?: () => Promise<void>; [isKept]?: boolean }
/** What a session of this toolkit says of itself; those of other plugins are always kept. */
const isKept = Symbol.for('fleet.session.isKept')

/** Position and time, in base 36; `x` stands for a position that could not be had: then only the primary will do. */
function write(position: number, now: number): string {
  return `${Number.isFinite(position) ? position.toString(36) : 'x'}.${Math.floor(now / 1000).toString(36)}`
}

/** @returns 0 for what says nothing: not one of ours, or too old */
function read(text: unknown, now: number, keepMs: number): number {
  const [, position = '', at = ''] =
    (typeof text === 'string' && /^(x|[0-9a-z]{1,11})\.([0-9a-z]{1,8})$/.exec(text)) || []
  if (at === '' || Math.abs(now - Number.parseInt(at, 36) * 1000) > keepMs) return 0
  return position === 'x' ? Number.POSITIVE_INFINITY : Number.parseInt(position, 36)
}

const mac = (text: string, secret: string): string =>
  createHmac('sha256', secret).update(`wal:${text}`).digest('base64url').slice(0, 22)

function unsign(signed: string | undefined, secrets: readonly string[]): string | undefined {
  const at = signed?.lastIndexOf('.') ?? -1
  if (signed === undefined || at < 0) return undefined
  const text = signed.slice(0, at)
  const given = Buffer.from(signed.slice(at + 1))
  return secrets.some((secret) => {
    const right = Buffer.from(mac(text, secret))
    return right.length === given.length && timingSafeEqual(right, given)
  })
    ? text
    : undefined
}

/** The reader that a request is: what he wrote before comes with it, what he writes now goes out with the response. */
export class RequestReader implements Reader {
  readonly #request: FastifyRequest
  readonly #terms: OwnWritesTerms
  /** What came with the request; read when it is first asked for, which most requests never do. */
  #before: number | undefined
  /** When this request wrote last. */
  #wroteAt = 0
  /** Where the position of all that it wrote was put. */
  #kept: 'nowhere' | 'session' | 'cookie' = 'nowhere'

  constructor(request: FastifyRequest, terms: OwnWritesTerms) {
    this.#request = request
    this.#terms = terms
  }

  writes(): void {
    this.#wroteAt = Date.now()
    this.#kept = 'nowhere'
  }

  /** Whether it wrote what no one will know of. The session of a response that says 500 is not saved. */
  isLost({ statusCode }: FastifyReply): boolean {
    return this.#wroteAt > 0 && (this.#kept === 'nowhere' || (this.#kept === 'session' && statusCode >= 500))
  }

  position(): number {
    const { keepMs, cookieName, secrets } = this.#terms
    const now = Date.now()
    // A request may last for hours, as those of WebSockets do.
    if (now - this.#wroteAt <= keepMs) return Number.POSITIVE_INFINITY
    if (this.#before === undefined) {
      const signed = this.#request.cookies[cookieName]
      const kept = signed === undefined ? 0 : read(unsign(signed, secrets), now, keepMs)
      this.#before = Math.max(kept, read(this.#session()?.[field], now, keepMs))
    }
    return this.#before
  }

  /**
   * Keeps how far the primary is now, in the session that there is, else in a cookie.
   *
   * @param saved the session was saved before this was asked, and must be saved again
   */
  async keep(reply: FastifyReply, saved: boolean): Promise<void> {
    const { router, secrets, cookieName, cookie, keepMs } = this.#terms
    const found = reply.statusCode < 500 ? this.#session() : undefined
    const session = found?.[isKept] === false ? undefined : found
    this.#kept = session ? 'session' : 'cookie'
    const now = await router.position().catch(() => Number.POSITIVE_INFINITY)
    const text = write(now, Date.now())
    if (session) {
      session[field] = text
      if (saved) await session.save?.()
      return
    }
    const signed = `${text}.${mac(text, secrets[0] ?? '')}`
    const maxAge = Math.ceil(keepMs / 1000)
    reply.setCookie(cookieName, signed, { path: '/', httpOnly: true, sameSite: 'lax', maxAge, ...cookie })
  }

  /** A session that holds something; an empty one would be kept, and get a cookie, for this alone. */
  #session(): Fields | undefined {
    const { session } = this.#request as { session?: Fields | null }
    if (!session) return undefined
    for (const name in session) if (name !== 'cookie' && Object.hasOwn(session, name)) return session
    return undefined
  }
}
