import type { CookieOptions } from '@fastify/session'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { unavailable } from '../redis/index.ts'
import { isDue, isHttps, SessionCookie, type StoredCookie, stored } from './cookie.ts'
import { type Callback, chain, type Later, settle } from './later.ts'
import { copy, type Data, isSame, type Loaded } from './loaded.ts'
import { isKept, type Terms, type Ticket, touchAfterOf } from './terms.ts'
import { checkSize } from './text.ts'

/** Requests whose session was destroyed: their client is to forget its cookie. */
const ended = new WeakSet<FastifyRequest>()

/**
 * `request.session`, with the API of `@fastify/session`. Its data are its own fields; everything else is behind private
 * ones, so that nothing of it is ever taken for data.
 */
export class Session {
  [field: string]: unknown
  readonly #terms: Terms
  readonly #request: FastifyRequest
  readonly #ticket: Ticket | undefined
  #id: string | undefined
  /** The data as the store has it; `undefined`: the store has no such session. */
  #baseline: string | undefined
  #data: Data = {}
  /** Whether {@link #data} is as it was, whatever a handler does to the objects in it. */
  #hasOriginal = false
  /** The cookie as the store has it. */
  #kept: StoredCookie | undefined
  #options: StoredCookie
  #cookie: SessionCookie | undefined
  #cookieWas = ''
  /** It is saved though no data changed, because its life starts anew. */
  #renews = false
  #saved = false
  /** The client gets a cookie. */
  #tells = false
  #detached = false
  /** A save has failed: it is not tried again with the error response. */
  #failed = false

  /** @param ticket what the client sent @param loaded what the store has; without it, the session is new */
  constructor(terms: Terms, request: FastifyRequest, ticket?: Ticket, loaded?: Loaded) {
    this.#terms = terms
    this.#request = request
    this.#options = loaded ? terms.cookie : terms.newCookie
    this.#ticket = ticket
    if (!loaded) return
    const { id, data, shared = false, cookie } = loaded
    this.#id = id
    this.#baseline = loaded.baseline
    this.#data = data
    this.#hasOriginal = shared
    this.#kept = cookie
    this.#renews = terms.rolling || isDue(cookie ?? {}, touchAfterOf(terms, cookie ?? {}))
    this.#tells = ticket?.renew === true
    for (const name in data) if (!taken.has(name)) this[name] = shared ? copy(data[name]) : data[name]
  }

  /** An empty session that nobody keeps, for a request that goes on though the one of this id could not be read. */
  static detached(terms: Terms, request: FastifyRequest, id: string | null): Session {
    const session = new Session(terms, request)
    session.#id = id ?? undefined
    session.#detached = true
    return session
  }

  get sessionId(): string {
    this.#id ??= this.#terms.newId(this.#request)
    return this.#id
  }

  get encryptedSessionId(): string {
    const ticket = this.#ticket
    if (ticket && !ticket.renew && ticket.id === this.#id) return ticket.signed
    return this.#terms.signer.sign(this.sessionId)
  }

  get cookie(): SessionCookie {
    if (!this.#cookie) {
      this.#cookie = new SessionCookie({ ...this.#options, ...this.#kept }, isHttps(this.#request))
      if (this.#renews || this.#terms.backing.slides) this.#cookie.touch()
      this.#cookieWas = JSON.stringify(this.#cookie)
    }
    return this.#cookie
  }

  get(name: string): unknown {
    return this[name]
  }

  set(name: string, value: unknown): void {
    this[name] = value
  }

  /** Cookie options for this session alone; they are kept with it. */
  options(given: Partial<CookieOptions>): void {
    if (Object.keys(given).length === 0) return
    const own = this.#ownOptions()
    const anonymous = own.anonymous && (given.maxAge ?? own.anonymous)
    this.#options = { ...own, ...given, anonymous }
    this.#kept = undefined
    this.#cookie = new SessionCookie(this.#options, isHttps(this.#request))
    this.#renews = true
  }

  /** The session's life starts anew, though nothing else may change. */
  touch(): void {
    this.cookie.touch()
    this.#renews = true
  }

  /** Whether its data is not what the store has. */
  isModified(): boolean {
    const names = Object.keys(this)
    if (this.#baseline === undefined) return names.length > 0
    if (isSame(this, names, this.#data, this.#hasOriginal)) return false
    const { backing } = this.#terms
    return backing.differ(backing.snapshot(this), this.#baseline)
  }

  isSaved(): boolean {
    return this.#saved
  }

  /** Saves now. A session that another request has ended meanwhile stays ended, and {@link isSaved} says so. */
  save(): Promise<void>
  save(callback: Callback): void
  save(callback?: Callback): Promise<void> | void {
    return settle(() => this.#save(), callback)
  }

  /** What the store has now takes the place of what this request has changed. */
  reload(): Promise<void>
  reload(callback: Callback): void
  reload(callback?: Callback): Promise<void> | void {
    return settle(() => this.#reload(), callback)
  }

  /** The same client, another id: what a login must do, so that an id planted before it is worth nothing. */
  regenerate(keep?: string[]): Promise<void>
  regenerate(callback: Callback): void
  regenerate(keep: string[], callback: Callback): void
  regenerate(...given: [(string[] | Callback)?, Callback?]): Promise<void> | void {
    const keep = Array.isArray(given[0]) ? given[0] : []
    return settle(() => this.#regenerate(keep), typeof given[0] === 'function' ? given[0] : given[1])
  }

  /** Ends the session, on every instance at once, and takes the client's cookie away. */
  destroy(): Promise<void>
  destroy(callback: Callback): void
  destroy(callback?: Callback): Promise<void> | void {
    return settle(() => this.#destroy(), callback)
  }

  toJSON(): Record<string, unknown> {
    return { ...this, cookie: this.cookie }
  }

  /**
   * Saves what the request has changed, and tells the client. A response of 500 or above saves nothing: what a handler
   * did before it failed is half done.
   */
  static finish(terms: Terms, request: FastifyRequest, reply: FastifyReply): Later<void> {
    const session = request.session as unknown
    if (!(session instanceof Session)) {
      if (ended.has(request)) forget(terms, request, reply)
      return
    }
    if (session.#detached) return
    if (reply.statusCode >= 500 || session.#failed || !session.#needsSave()) return session.#answer(reply)
    session.#failed = true
    return chain(session.#persist(), () => {
      session.#failed = false
      session.#answer(reply)
    })
  }

  #needsSave(): boolean {
    if (this.#baseline !== undefined) return this.#renews || this.#cookieChanged() || this.isModified()
    // Nobody could come back to a new session whose cookie cannot be sent.
    return (this.#terms.saveUninitialized || this.isModified()) && this.#mayTell()
  }

  #cookieChanged(): boolean {
    return this.#cookie !== undefined && JSON.stringify(this.#cookie) !== this.#cookieWas
  }

  #mayTell(): boolean {
    const may = this.cookie.secure !== true || isHttps(this.#request)
    if (!may) this.#terms.insecure()
    return may
  }

  #answer(reply: FastifyReply): void {
    const { cookieName, cookiePrefix } = this.#terms
    if (this.#tells && this.#mayTell())
      reply.setCookie(cookieName, cookiePrefix + this.encryptedSessionId, this.cookie.toJSON() as object)
    else if (this.#baseline === undefined) forget(this.#terms, this.#request, reply)
  }

  /** Whether it may be kept: a new session that nobody has logged in to only within the limits for such. */
  get [isKept](): boolean {
    const { isAuthenticated, admits } = this.#terms
    if ((this.#cookie ?? this.#kept ?? this.#options).anonymous === undefined) return true
    if (!isAuthenticated(this)) return this.#baseline !== undefined || admits?.(this.#request) !== false
    this.cookie.anonymous = undefined
    return true
  }

  /** @returns whether the session is alive */
  #persist(): Later<boolean> {
    if (this.#detached) throw unavailable(new Error('this session could not be read'))
    const { backing } = this.#terms
    const snapshot = backing.snapshot(this)
    checkSize(snapshot, backing.maxBytes, this.#baseline)
    if (!this[isKept]) return false
    const renews = this.#baseline === undefined || this.#renews || backing.slides || this.#cookieChanged()
    const cookie = renews ? this.#toKeep() : undefined
    const written =
      this.#baseline === undefined
        ? chain(backing.create(this.sessionId, this, cookie as StoredCookie), () => true)
        : backing.update(this.sessionId, this, this.#baseline, cookie)
    return chain(written, (alive) => {
      if (!alive) return false
      this.#baseline = snapshot
      this.#data = {}
      this.#hasOriginal = false
      this.#kept = cookie ?? this.#kept
      this.#cookieWas = JSON.stringify(this.cookie)
      this.#renews = false
      this.#tells ||= renews
      return true
    })
  }

  #save(): Later<void> {
    return chain(this.#persist(), (alive) => {
      this.#saved = alive
      this.#tells = alive
    })
  }

  #reload(): Later<void> {
    const id = this.sessionId
    return chain(this.#terms.backing.load(id), (loaded) => {
      const next = new Session(this.#terms, this.#request, this.#ticket, loaded)
      next.#saved = this.#saved
      next.#tells ||= this.#saved
      this.#replaceBy(next)
    })
  }

  #regenerate(keep: string[]): Later<void> {
    const next = new Session(this.#terms, this.#request)
    next.#id = this.#terms.newId(this.#request)
    // A login: nothing of what limits anonymous sessions holds for the new one.
    next.#options = { ...this.#ownOptions(), anonymous: undefined }
    for (const name of keep) next[name] = this[name]
    const stored = this.#baseline !== undefined || this.#detached
    // First the new one: what cannot be put into words, or finds no room in Redis, ends nothing.
    const saved = next.#save()
    const gone = chain(saved, () => stored && this.#terms.backing.destroy(this.sessionId, this.#baseline))
    return chain(gone, () => this.#replaceBy(next))
  }

  #destroy(): Later<void> {
    return chain(this.#terms.backing.destroy(this.sessionId, this.#baseline), () => {
      ended.add(this.#request)
      this.#replaceBy(null)
    })
  }

  #replaceBy(next: Session | null): void {
    ;(this.#request as { session: unknown }).session = next
  }

  /** The options of its cookie, in the form they are given. */
  #ownOptions(): StoredCookie {
    const { originalMaxAge, expires: _, at: __, agent: ___, ...kept } = this.#kept ?? {}
    return { ...this.#options, ...kept, ...(originalMaxAge && { maxAge: originalMaxAge }) }
  }

  /** Of its cookie, what another request could not know. */
  #toKeep(): StoredCookie {
    const usual = new SessionCookie(this.#terms.cookie, isHttps(this.#request))
    return stored(this.cookie, usual, this.#request.headers?.['user-agent'])
  }
}

/** What no field of a session can be named: `in` would look for each along the chain of prototypes. */
const taken: ReadonlySet<string> = new Set(
  [Session.prototype, Object.prototype].flatMap((prototype) => Object.getOwnPropertyNames(prototype)),
)

function forget({ cookieName, cookie }: Terms, request: FastifyRequest, reply: FastifyReply): void {
  if (request.cookies[cookieName] !== undefined)
    reply.clearCookie(cookieName, { domain: cookie.domain, path: cookie.path })
}
