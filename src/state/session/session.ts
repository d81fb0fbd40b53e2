import type { CookieOptions } from '@fastify/session'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { chain, type ErrorCallback, type MaybePromise, settle } from '../../base/maybe-promise.ts'
import { isHttps } from '../../instance/client-key.ts'
import { sendCookie } from '../../instance/compat/cookies.ts'
import { unavailable } from '../redis/index.ts'
import { clearCookie, isTouchDue, SessionCookie, type StoredCookie, toStored } from './cookie.ts'
import type { SessionContext } from './options.ts'
import { checkSize, copy, isSame, type SessionData, type SessionRecord } from './record.ts'
import type { VerifiedCookie } from './signer.ts'

/** `false` if the session will not be saved. Plugins that would add their own data to it read this property. */
export const mayBeSaved: unique symbol = Symbol.for('fleet.session.mayBeSaved')

/** Requests whose session was destroyed. Their responses clear the cookie. */
const destroyed = new WeakSet<FastifyRequest>()

/**
 * `request.session`, with the API of `@fastify/session`. The session data are its own properties. Everything else is in
 * private fields, so that it is never saved as data.
 */
export class Session {
  [field: string]: unknown
  readonly #context: SessionContext
  readonly #request: FastifyRequest
  readonly #verified: VerifiedCookie | undefined
  #id: string | undefined
  /** The data in the store; `undefined`: the session is not stored. */
  #baseline: string | undefined
  #data: SessionData = {}
  /** Whether handlers cannot have changed the objects in {@link #data}. */
  #hasOriginal = false
  /** The cookie in the store. */
  #storedCookie: StoredCookie | undefined
  #options: StoredCookie
  #cookie: SessionCookie | undefined
  #originalCookie = ''
  /** Whether the next save extends the lifetime. The session is saved even if its data is unchanged. */
  #extendTtl = false
  #isSaved = false
  /** Whether the response carries the cookie. */
  #sendCookie = false
  /** Whether the store was unavailable, so that the session is empty and cannot be saved. */
  #isDetached = false
  /** Whether a save has failed. The error response does not try again. */
  #hasFailed = false

  /** @param verified the client's cookie @param record the stored session; without it, the session is new */
  constructor(context: SessionContext, request: FastifyRequest, verified?: VerifiedCookie, record?: SessionRecord) {
    this.#context = context
    this.#request = request
    this.#options = record ? context.cookie : context.newCookie
    this.#verified = verified
    if (!record) return
    const { id, data, baseline, shared = false, cookie } = record
    this.#id = id
    this.#baseline = baseline
    this.#data = data
    this.#hasOriginal = shared
    this.#storedCookie = cookie
    this.#extendTtl = context.rolling || isTouchDue(cookie ?? {}, context)
    this.#sendCookie = verified?.renew === true
    for (const name in data) if (!reservedNames.has(name)) this[name] = shared ? copy(data[name]) : data[name]
  }

  /** An empty session that is not saved, for a request that continues although its session could not be loaded. */
  static detached(context: SessionContext, request: FastifyRequest, id: string | null): Session {
    const session = new Session(context, request)
    session.#id = id ?? undefined
    session.#isDetached = true
    return session
  }

  get sessionId(): string {
    this.#id ??= this.#context.newId(this.#request)
    return this.#id
  }

  get encryptedSessionId(): string {
    const verified = this.#verified
    if (verified && !verified.renew && verified.id === this.#id) return verified.signed
    return this.#context.signer.sign(this.sessionId)
  }

  get cookie(): SessionCookie {
    if (!this.#cookie) {
      this.#cookie = new SessionCookie({ ...this.#options, ...this.#storedCookie }, isHttps(this.#request))
      if (this.#extendTtl || this.#context.backend.rewritesOnSave) this.#cookie.touch()
      this.#originalCookie = JSON.stringify(this.#cookie)
    }
    return this.#cookie
  }

  get(name: string): unknown {
    return this[name]
  }

  set(name: string, value: unknown): void {
    this[name] = value
  }

  /** Sets cookie options for this session only. They are stored with it. */
  options(given: Partial<CookieOptions>): void {
    if (Object.keys(given).length === 0) return
    const own = this.#ownOptions()
    const anonymous = own.anonymous && (given.maxAge ?? own.anonymous)
    this.#options = { ...own, ...given, anonymous }
    this.#storedCookie = undefined
    this.#cookie = new SessionCookie(this.#options, isHttps(this.#request))
    this.#extendTtl = true
  }

  /** Extends the lifetime, even if nothing else changes. */
  touch(): void {
    this.cookie.touch()
    this.#extendTtl = true
  }

  /** Whether the data differs from the stored data. */
  isModified(): boolean {
    const names = Object.keys(this)
    if (this.#baseline === undefined) return names.length > 0
    if (isSame(this, names, this.#data, this.#hasOriginal)) return false
    const { backend } = this.#context
    return backend.isChanged(backend.snapshot(this), this.#baseline)
  }

  isSaved(): boolean {
    return this.#isSaved
  }

  /** Saves now. A session that another request has ended is not recreated; {@link isSaved} is then `false`. */
  save(): Promise<void>
  save(callback: ErrorCallback): void
  save(callback?: ErrorCallback): Promise<void> | void {
    return settle(() => this.#save(), callback)
  }

  /** Loads the stored data and discards the changes of this request. */
  reload(): Promise<void>
  reload(callback: ErrorCallback): void
  reload(callback?: ErrorCallback): Promise<void> | void {
    return settle(() => this.#reload(), callback)
  }

  /** Gives the session a new id. Every login must do this, so that an id planted before it is worthless. */
  regenerate(keep?: string[]): Promise<void>
  regenerate(callback: ErrorCallback): void
  regenerate(keep: string[], callback: ErrorCallback): void
  regenerate(...given: [(string[] | ErrorCallback)?, ErrorCallback?]): Promise<void> | void {
    const keep = Array.isArray(given[0]) ? given[0] : []
    return settle(() => this.#regenerate(keep), typeof given[0] === 'function' ? given[0] : given[1])
  }

  /** Ends the session on every instance at once, and clears the client's cookie. */
  destroy(): Promise<void>
  destroy(callback: ErrorCallback): void
  destroy(callback?: ErrorCallback): Promise<void> | void {
    return settle(() => this.#destroy(), callback)
  }

  toJSON(): Record<string, unknown> {
    return { ...this, cookie: this.cookie }
  }

  /**
   * Saves the changes of a request and sets the cookie. A response of 500 or above saves nothing, because the changes of
   * a handler that failed may be incomplete.
   */
  static finish(context: SessionContext, request: FastifyRequest, reply: FastifyReply): MaybePromise<void> {
    const session = request.session as unknown
    if (!(session instanceof Session)) {
      if (destroyed.has(request)) clearCookie(context, request, reply)
      return
    }
    if (session.#isDetached) return
    if (reply.statusCode >= 500 || session.#hasFailed || !session.#needsSave()) return session.#writeCookie(reply)
    session.#hasFailed = true
    return chain(session.#persist(), () => {
      session.#hasFailed = false
      session.#writeCookie(reply)
    })
  }

  #needsSave(): boolean {
    if (this.#baseline !== undefined) return this.#extendTtl || this.#cookieChanged() || this.isModified()
    // Without its cookie a new session could never be used.
    return (this.#context.saveUninitialized || this.isModified()) && this.#canSendCookie()
  }

  #cookieChanged(): boolean {
    return this.#cookie !== undefined && JSON.stringify(this.#cookie) !== this.#originalCookie
  }

  #canSendCookie(): boolean {
    const canSend = this.cookie.secure !== true || isHttps(this.#request)
    if (!canSend) this.#context.warnInsecure()
    return canSend
  }

  #writeCookie(reply: FastifyReply): void {
    const { cookieName, cookiePrefix } = this.#context
    if (this.#sendCookie && this.#canSendCookie())
      sendCookie(reply, cookieName, cookiePrefix + this.encryptedSessionId, this.cookie.toJSON() as object)
    else if (this.#baseline === undefined) clearCookie(this.#context, this.#request, reply)
  }

  /** Whether the session may be saved. A new anonymous session is subject to the limits of `anonymous`. */
  get [mayBeSaved](): boolean {
    const { isAuthenticated, admits } = this.#context
    if ((this.#cookie ?? this.#storedCookie ?? this.#options).anonymous === undefined) return true
    if (!isAuthenticated(this)) return this.#baseline !== undefined || admits?.(this.#request) !== false
    this.cookie.anonymous = undefined
    return true
  }

  /** Writes the session to its backend. @returns false if it was not written, because it has ended or is over a limit */
  #persist(): MaybePromise<boolean> {
    if (this.#isDetached) throw unavailable(new Error('the session could not be loaded'))
    const { backend } = this.#context
    const snapshot = backend.snapshot(this)
    checkSize(snapshot, backend.maxBytes, this.#baseline)
    if (!this[mayBeSaved]) return false
    const extendTtl = this.#baseline === undefined || this.#extendTtl || backend.rewritesOnSave || this.#cookieChanged()
    const cookie = extendTtl ? this.#cookieToStore() : undefined
    const written =
      this.#baseline === undefined
        ? chain(backend.create(this.sessionId, this, cookie as StoredCookie), () => true)
        : backend.update(this.sessionId, this, this.#baseline, cookie)
    return chain(written, (isAlive) => {
      if (!isAlive) return false
      this.#baseline = snapshot
      this.#data = {}
      this.#hasOriginal = false
      this.#storedCookie = cookie ?? this.#storedCookie
      this.#originalCookie = JSON.stringify(this.cookie)
      this.#extendTtl = false
      this.#sendCookie ||= extendTtl
      return true
    })
  }

  #save(): MaybePromise<void> {
    return chain(this.#persist(), (isAlive) => {
      this.#isSaved = isAlive
      this.#sendCookie = isAlive
    })
  }

  #reload(): MaybePromise<void> {
    return chain(this.#context.backend.load(this.sessionId), (record) => {
      const next = new Session(this.#context, this.#request, this.#verified, record)
      next.#isSaved = this.#isSaved
      next.#sendCookie ||= this.#isSaved
      this.#replaceBy(next)
    })
  }

  #regenerate(keep: string[]): MaybePromise<void> {
    const next = new Session(this.#context, this.#request)
    next.#id = this.#context.newId(this.#request)
    // A login: the limits of anonymous sessions do not apply to the new session.
    next.#options = { ...this.#ownOptions(), anonymous: undefined }
    for (const name of keep) next[name] = this[name]
    const isStored = this.#baseline !== undefined || this.#isDetached
    // Save the new session first: if that fails (not serializable, Redis is full), the old one stays.
    const saved = chain(next.#save(), () => isStored && this.#context.backend.destroy(this.sessionId, this.#baseline))
    return chain(saved, () => this.#replaceBy(next))
  }

  #destroy(): MaybePromise<void> {
    return chain(this.#context.backend.destroy(this.sessionId, this.#baseline), () => {
      destroyed.add(this.#request)
      this.#replaceBy(null)
    })
  }

  #replaceBy(next: Session | null): void {
    ;(this.#request as { session: unknown }).session = next
  }

  /** The cookie's options, in the form of the option `cookie`. */
  #ownOptions(): StoredCookie {
    const { originalMaxAge, expires: _, at: __, agent: ___, ...options } = this.#storedCookie ?? {}
    return { ...this.#options, ...options, ...(originalMaxAge && { maxAge: originalMaxAge }) }
  }

  #cookieToStore(): StoredCookie {
    const defaults = new SessionCookie(this.#context.cookie, isHttps(this.#request))
    return toStored(this.cookie, defaults, this.#request.headers?.['user-agent'])
  }
}

/** Names that data fields cannot have. A set, because `in` would walk the prototype chain for each field. */
const reservedNames: ReadonlySet<string> = new Set(
  [Session.prototype, Object.prototype].flatMap((prototype) => Object.getOwnPropertyNames(prototype)),
)
