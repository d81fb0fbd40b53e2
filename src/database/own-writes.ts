import { createHmac, timingSafeEqual } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { cookieValues } from '../base/cookies.ts'
import { isHttps } from '../instance/client-key.ts'
import { sendCookie } from '../instance/compat/cookies.ts'
import type { Reader, Router } from './router.ts'

/** Settings shared by all requests of an app. */
export interface OwnWritesSettings {
  readonly router: Router
  /** The first one signs, all verify. */
  readonly secrets: readonly string[]
  readonly cookieName: string
  readonly secure: boolean | 'auto'
  /** Called when a `Secure` cookie is sent to a client that does not use TLS. */
  warnInsecure(): void
  /** How long a position is kept, ms. By then every replica in use has replayed it. */
  readonly keepMs: number
}

/** The session field with the position. */
const field = 'walPosition'
type Fields = Record<string, unknown> & { save?: () => Promise<void>; [mayBeSaved]?: boolean }
/** Whether a session of this toolkit will be stored; sessions of other plugins always are. */
const mayBeSaved = Symbol.for('fleet.session.mayBeSaved')

/** Position and time in base 36. `x` stands for an unknown position: then only the primary may serve reads. */
function write(position: number, now: number): string {
  return `${Number.isFinite(position) ? position.toString(36) : 'x'}.${Math.floor(now / 1000).toString(36)}`
}

/** @returns 0 when the text is invalid or too old */
function read(text: unknown, now: number, keepMs: number): number {
  const [, position = '', at = ''] =
    (typeof text === 'string' && /^(x|[0-9a-z]{1,11})\.([0-9a-z]{1,8})$/.exec(text)) || []
  if (at === '' || Math.abs(now - Number.parseInt(at, 36) * 1000) > keepMs) return 0
  return position === 'x' ? Number.POSITIVE_INFINITY : Number.parseInt(position, 36)
}

const mac = (text: string, secret: string): string =>
  createHmac('sha256', secret).update(`wal:${text}`).digest('base64url').slice(0, 22)

function unsign(signed: string, secrets: readonly string[]): string | undefined {
  const at = signed.lastIndexOf('.')
  if (at < 0) return undefined
  const text = signed.slice(0, at)
  const signature = Buffer.from(signed.slice(at + 1))
  return secrets.some((secret) => {
    const expected = Buffer.from(mac(text, secret))
    return expected.length === signature.length && timingSafeEqual(expected, signature)
  })
    ? text
    : undefined
}

/**
 * Read-your-writes for one request: reads the position of the client's earlier writes from the session or the cookie, and
 * stores the new position there after a write.
 */
export class RequestReader implements Reader {
  readonly #request: FastifyRequest
  readonly #settings: OwnWritesSettings
  /** Position that came with the request; read on first use, because most requests never need it. */
  #before: number | undefined
  /** Time of this request's last write. */
  #wroteAt = 0
  /** Where the position of its writes was stored. */
  #kept: 'nowhere' | 'session' | 'cookie' = 'nowhere'

  constructor(request: FastifyRequest, settings: OwnWritesSettings) {
    this.#request = request
    this.#settings = settings
  }

  writes(): void {
    this.#wroteAt = Date.now()
    this.#kept = 'nowhere'
  }

  /** Whether a write's position is not stored yet. The session of a response with a 5xx is not saved. */
  mustKeep({ statusCode }: FastifyReply): boolean {
    return this.#wroteAt > 0 && (this.#kept === 'nowhere' || (this.#kept === 'session' && statusCode >= 500))
  }

  position(): number {
    const { keepMs, cookieName, secrets } = this.#settings
    const now = Date.now()
    // A request may last for hours, such as a WebSocket.
    if (now - this.#wroteAt <= keepMs) return Number.POSITIVE_INFINITY
    if (this.#before === undefined) {
      const signed = cookieValues(this.#request.headers.cookie, cookieName)
      const kept = signed.map((value) => read(unsign(value, secrets), now, keepMs))
      this.#before = Math.max(...kept, read(this.#session()?.[field], now, keepMs))
    }
    return this.#before
  }

  /**
   * Stores the primary's current position in the session if there is one, else in a cookie.
   *
   * @param saved the session was saved before this call and must be saved again
   */
  async keep(reply: FastifyReply, saved: boolean): Promise<void> {
    const { router, secrets, cookieName, secure, keepMs } = this.#settings
    const found = reply.statusCode < 500 ? this.#session() : undefined
    const session = found?.[mayBeSaved] === false ? undefined : found
    this.#kept = session ? 'session' : 'cookie'
    const now = await router.position().catch(() => Number.POSITIVE_INFINITY)
    const text = write(now, Date.now())
    if (session) {
      session[field] = text
      if (saved) await session.save?.()
      return
    }
    if (secure === true && !isHttps(this.#request)) this.#settings.warnInsecure()
    const signed = `${text}.${mac(text, secrets[0] ?? '')}`
    const maxAge = Math.ceil(keepMs / 1000)
    sendCookie(reply, cookieName, signed, { path: '/', httpOnly: true, sameSite: 'lax', maxAge, secure })
  }

  /** A session with data; an empty one would be stored, and would set a cookie, only for the position. */
  #session(): Fields | undefined {
    const { session } = this.#request as { session?: object | null }
    if (!session) return undefined
    for (const name in session) if (name !== 'cookie' && Object.hasOwn(session, name)) return session as Fields
    return undefined
  }
}
