import { lifeOf, type StoredCookie } from './cookie.ts'
import type { SessionEngine } from './engine.ts'
import { both, chain, type Later } from './later.ts'
import { copy, type Data, Kept, type Loaded, parse } from './loaded.ts'
import { checkSize, defaultMaxBytes, difference, join, members, quote, write } from './text.ts'

/** What the session plugin asks of a store. Every method may throw FLEET_ERR_STATE_UNAVAILABLE. */
export interface Backing {
  /** Whether every save starts the session's life anew, because it is written as a whole. */
  readonly slides: boolean
  /** Most that the data of one session has as JSON. */
  readonly maxBytes: number
  load(id: string): Later<Loaded | undefined>
  /** The data in the form of a baseline. */
  snapshot(data: Data): string
  differ(snapshot: string, baseline: string): boolean
  create(id: string, data: Data, cookie: StoredCookie): Later<unknown>
  /**
   * Saves what has changed since `baseline`, and with a cookie the session's new life too.
   *
   * @returns false, with nothing written, when the session has ended meanwhile
   */
  update(id: string, data: Data, baseline: string, cookie?: StoredCookie): Later<boolean>
  destroy(id: string, baseline?: string): Later<unknown>
}

export interface SessionsOptions {
  /** Life of a session whose cookie says nothing about it, in seconds. @default 86400 */
  ttl?: number
  /** The field of a session that says whose it is. @default 'userId' */
  userId?: string
  /** Whether changes are merged field by field, or the whole session replaced. @default true */
  merge?: boolean
  /** Most that the data of one session has as JSON, 1 to 16,777,216 bytes. @default 65536 (64 KiB) */
  maxBytes?: number
}

/** One session of a user, as {@link Sessions.list} shows it. */
export interface UserSession {
  readonly sessionId: string
  /** `null`: when its browser closes. */
  readonly expires: Date | null
  /** When its user was last there, as exact as `touchAfter`; `null` where another plugin keeps the session. */
  readonly lastSeen: Date | null
  /** `User-Agent` of that visit, its first 200 characters. */
  readonly device: string | null
  readonly data: Data
}

/** The sessions of a fleet: what changed in one request is merged with what others changed, and what ended stays so. */
export class Sessions implements Backing {
  readonly kind: SessionEngine['kind']
  readonly slides: boolean
  readonly maxBytes: number
  readonly #engine: SessionEngine
  readonly #ttlMs: number
  readonly #userId: string

  constructor(engine: SessionEngine, options: SessionsOptions = {}) {
    const { ttl = 86_400, userId = 'userId', merge = true, maxBytes = defaultMaxBytes } = options
    this.kind = engine.kind
    this.slides = !merge
    this.maxBytes = maxBytes
    this.#engine = engine
    this.#ttlMs = ttl * 1000
    this.#userId = userId
  }

  /** Every live session of a user. @throws FLEET_ERR_STATE_UNAVAILABLE */
  async list(userId: string | number): Promise<UserSession[]> {
    const user = String(userId)
    const ids = await this.#engine.ids(user)
    const found = await Promise.all(ids.map((id) => this.load(id)))
    const sessions: UserSession[] = []
    const stale: string[] = []
    for (const [i, sessionId] of ids.entries()) {
      const { cookie, ...data } = copy(found[i]?.data ?? {})
      if (this.#owner(data) !== user) stale.push(sessionId)
      else sessions.push({ sessionId, data, ...visit(cookie as StoredCookie) })
    }
    await Promise.all(stale.map((id) => this.#engine.forget(user, id)))
    return sessions
  }

  /**
   * Ends every session of a user, on every instance at once.
   *
   * @param except the session to keep: that of a user who asks to be logged out everywhere else
   * @returns how many ended
   * @throws FLEET_ERR_STATE_UNAVAILABLE
   */
  async destroyAll(userId: string | number, { except }: { except?: string } = {}): Promise<number> {
    const user = String(userId)
    const ids = (await this.#engine.ids(user)).filter((id) => id !== except)
    const ended = await Promise.all(ids.map((id) => this.#engine.destroy(id)))
    await Promise.all(ids.map((id) => this.#engine.forget(user, id)))
    return ended.filter(Boolean).length
  }

  load(id: string): Later<Loaded | undefined> {
    return chain(this.#engine.read(id), (read) => (read instanceof Kept ? read.load() : parse(id, read)))
  }

  snapshot(data: Data): string {
    return write(data)
  }

  differ(snapshot: string, baseline: string): boolean {
    // Equal data may be in another order: names that are numbers come first once they have been read.
    return snapshot !== baseline && difference(baseline, snapshot).size > 0
  }

  create(id: string, data: Data, cookie: StoredCookie): Later<unknown> {
    const ttlMs = lifeOf(cookie, this.#ttlMs)
    const user = this.#owner(data)
    const rest = write(data)
    checkSize(rest, this.maxBytes)
    const text = join(JSON.stringify(cookie), rest)
    // Before the session itself, so that destroyAll() finds whatever session there is.
    const remembered = user === undefined ? undefined : this.#engine.remember(user, id, ttlMs)
    return both(remembered, this.#engine.put(id, text, ttlMs))
  }

  update(id: string, data: Data, baseline: string, cookie?: StoredCookie): Later<boolean> {
    const rest = write(data)
    checkSize(rest, this.maxBytes, baseline)
    const before = this.#ownerIn(baseline)
    const user = this.#owner(data)
    const ttlMs = cookie ? lifeOf(cookie, this.#ttlMs) : 0
    const written = this.slides
      ? this.#engine.replace(id, join(JSON.stringify(cookie), rest), ttlMs)
      : this.#engine.merge(id, changes(baseline, rest, cookie), ttlMs, this.maxBytes)
    const isNew = user !== undefined && (cookie || user !== before)
    const remembered = isNew ? this.#engine.remember(user, id, ttlMs || this.#ttlMs) : undefined
    const forgotten = before !== undefined && user !== before ? this.#engine.forget(before, id) : undefined
    return chain(both(written, both(remembered, forgotten)), ([alive]) => {
      const late = !alive && user !== undefined ? this.#engine.forget(user, id) : undefined
      return chain(late, () => alive)
    })
  }

  /** The session lives as long as its cookie now says; what it holds stays as it is. */
  touch(id: string, data: Data, cookie: StoredCookie): Later<boolean> {
    return this.update(id, data, write(data), cookie)
  }

  destroy(id: string, baseline?: string): Later<unknown> {
    const user = baseline === undefined ? undefined : this.#ownerIn(baseline)
    const ended = this.#engine.destroy(id)
    return both(ended, user === undefined ? undefined : this.#engine.forget(user, id))
  }

  #owner(data: Data): string | undefined {
    const owner = data[this.#userId]
    return typeof owner === 'string' || typeof owner === 'number' ? String(owner) : undefined
  }

  #ownerIn(baseline: string): string | undefined {
    const json = members(baseline).get(quote(this.#userId))
    try {
      return json === undefined ? undefined : this.#owner({ [this.#userId]: JSON.parse(json) })
    } catch {
      // A text that is JSON as a whole, but was not written by this plugin.
      return undefined
    }
  }
}

function visit(cookie: StoredCookie): Pick<UserSession, 'expires' | 'lastSeen' | 'device'> {
  const { at, originalMaxAge, agent = null } = cookie
  const expires = cookie.expires ? new Date(cookie.expires) : null
  const seen = at ?? (expires && originalMaxAge ? expires.getTime() - originalMaxAge : undefined)
  return { expires, lastSeen: seen === undefined ? null : new Date(seen), device: agent }
}

function changes(baseline: string, rest: string, cookie?: StoredCookie): Map<string, string> {
  const found = difference(baseline, rest)
  if (cookie) found.set('"cookie"', JSON.stringify(cookie))
  return found
}
