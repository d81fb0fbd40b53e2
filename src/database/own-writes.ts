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
  /** How long a write is remembered within its request and by a cookie, ms. A session's position that is older is checked. */
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

/** A position is valid at any time: the clock of the instance that reads it may differ from that of the one that wrote it. */
interface StoredPosition {
  /** 0 when the text is invalid. */
  readonly position: number
  /** In ms since 1970, with a resolution of a second. */
  readonly at: number
}

function read(text: unknown): StoredPosition {
  const [, position = '0', at = '0'] =
    (typeof text === 'string' && /^(x|[0-9a-z]{1,11})\.([0-9a-z]{1,8})$/.exec(text)) || []
  return {
    position: position === 'x' ? Number.POSITIVE_INFINITY : Number.parseInt(position, 36),
    at: Number.parseInt(at, 36) * 1000,
  }
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
 *
 * A cookie ends after `keepMs` by the client's clock. A session may last for weeks, and its position may be unknown, or one of
 * a database that was restored since, which no replica will ever replay. So an unknown position and an old one that sent reads
 * to the primary are replaced by the primary's current position, once it responds. Meanwhile they are valid, since replicas
 * may lack the client's writes for as long as the primary is down.
 */
export class RequestReader implements Reader {
  readonly #request: FastifyRequest
  readonly #settings: OwnWritesSettings
  /** Position that came with the request; read on first use, because most requests never need it. */
  #before: number | undefined
  /** The position came from the session, and is unknown or old. */
  #isDoubtful = false
  /** Time of this request's last write, on the clock of `performance.now()`. */
  #wroteAt = Number.NEGATIVE_INFINITY
  /** Where the position of its writes was stored. */
  #kept: 'nowhere' | 'session' | 'cookie' = 'nowhere'

  constructor(request: FastifyRequest, settings: OwnWritesSettings) {
    this.#request = request
    this.#settings = settings
  }

  writes(): void {
    this.#wroteAt = performance.now()
    this.#kept = 'nowhere'
  }

  /** Whether a position is to be stored. The session of a response with a 5xx is not saved. */
  mustKeep({ statusCode }: FastifyReply): boolean {
    if (this.#hasWritten) return this.#kept === 'nowhere' || (this.#kept === 'session' && statusCode >= 500)
    if (!this.#isDoubtful || this.#kept !== 'nowhere' || statusCode >= 500) return false
    return !this.#settings.router.set.hasReplayed(this.position())
  }

  get #hasWritten(): boolean {
    return this.#wroteAt !== Number.NEGATIVE_INFINITY
  }

  position(): number {
    const { keepMs, cookieName, secrets } = this.#settings
    // A request may last for hours, such as a WebSocket.
    if (performance.now() - this.#wroteAt <= keepMs) return Number.POSITIVE_INFINITY
    if (this.#before === undefined) {
      const signed = cookieValues(this.#request.headers.cookie, cookieName)
      const inCookie = Math.max(0, ...signed.map((value) => read(unsign(value, secrets)).position))
      const { position, at } = read(this.#session()?.[field])
      this.#before = Math.max(inCookie, position)
      const isOld = Math.abs(Date.now() - at) > keepMs
      this.#isDoubtful = position > inCookie && (isOld || position === Number.POSITIVE_INFINITY)
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
    // Without a write there is nothing to store but a better position, in the session that has the doubtful one.
    if (!this.#hasWritten && (!session || now === Number.POSITIVE_INFINITY)) return
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
