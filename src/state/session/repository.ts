import { FleetError } from '../../base/errors.ts'
import { both, chain, type MaybePromise } from '../../base/maybe-promise.ts'
import { lifetimeOf, type StoredCookie } from './cookie.ts'
import {
  CachedRecord,
  checkSize,
  copy,
  defaultMaxBytes,
  difference,
  joinText,
  parseMembers,
  parseRecord,
  quote,
  type SessionData,
  type SessionRecord,
  serialize,
} from './record.ts'
import type { RecordStore } from './store.ts'

/** What a backend has done, for the metrics. */
export class SessionCounts {
  created = 0
  loaded = 0
  saved = 0
  destroyed = 0
}

/** What `Session` needs of the place where sessions are saved. Every method may fail with FLEET_ERR_STATE_UNAVAILABLE. */
export interface SessionBackend {
  /** Whether each save writes the whole session, and so also extends its lifetime. */
  readonly rewritesOnSave: boolean
  /** Most bytes of the data of one session as JSON. */
  readonly maxBytes: number
  readonly counts: SessionCounts
  load(id: string): MaybePromise<SessionRecord | undefined>
  /** The data as text, in the form of a baseline. */
  snapshot(data: SessionData): string
  isChanged(snapshot: string, baseline: string): boolean
  create(id: string, data: SessionData, cookie: StoredCookie): MaybePromise<unknown>
  /**
   * Saves what has changed since `baseline`. With a cookie it also extends the lifetime.
   *
   * @returns false, with nothing written, if the session has ended meanwhile
   */
  update(id: string, data: SessionData, baseline: string, cookie?: StoredCookie): MaybePromise<boolean>
  destroy(id: string, baseline?: string): MaybePromise<unknown>
}

export interface SessionsOptions {
  /** Lifetime in ms of a session whose cookie has none. @default 86400000 (a day) */
  ttlMs?: number
  /** The field of a session that identifies its user. @default 'userId' */
  userId?: string
  /** Whether changes are merged field by field; `false`: a save replaces the whole session. @default true */
  merge?: boolean
  /** Most bytes of the data of one session as JSON, 1 to 16,777,216. @default 65536 (64 KiB) */
  maxBytes?: number
}

/** One session of a user, as {@link Sessions.list} returns it. */
export interface UserSession {
  readonly sessionId: string
  /** `null`: when the browser closes. */
  readonly expires: Date | null
  /** Time of the last visit, as exact as `touchAfterMs`; `null` if another plugin maintains the session. */
  readonly lastSeen: Date | null
  /** `User-Agent` of that visit, its first 200 characters. */
  readonly device: string | null
  readonly data: SessionData
}

/** The sessions of a fleet. Changes of overlapping requests are merged, and a session that has ended is not recreated. */
export class Sessions implements SessionBackend {
  readonly kind: RecordStore['kind']
  readonly rewritesOnSave: boolean
  readonly maxBytes: number
  readonly counts: SessionCounts = new SessionCounts()
  /** Called for each save whose field `userId` identifies no user. @internal */
  onUnlisted: (field: string, value: unknown) => void = () => {}
  readonly #store: RecordStore
  readonly #ttlMs: number
  readonly #userId: string

  constructor(store: RecordStore, options: SessionsOptions = {}) {
    const { ttlMs = 86_400_000, userId = 'userId', merge = true, maxBytes = defaultMaxBytes } = options
    this.kind = store.kind
    this.rewritesOnSave = !merge
    this.maxBytes = maxBytes
    this.#store = store
    this.#ttlMs = ttlMs
    this.#userId = userId
  }

  /**
   * Lists the live sessions of a user.
   *
   * @throws FLEET_ERR_STATE_UNAVAILABLE, FLEET_ERR_OPTION_INVALID if `userId` identifies no user, for example `'undefined'`
   */
  async list(userId: string | number): Promise<UserSession[]> {
    const user = requireUser(userId)
    const ids = await this.#store.idsOfUser(user)
    const records = await Promise.all(ids.map((id) => this.load(id)))
    const sessions: UserSession[] = []
    const stale: string[] = []
    for (const [i, sessionId] of ids.entries()) {
      const { cookie, ...data } = copy(records[i]?.data ?? {})
      if (this.#userOf(data) !== user) stale.push(sessionId)
      else sessions.push({ sessionId, data, ...lastVisit(cookie as StoredCookie) })
    }
    await Promise.all(stale.map((id) => this.#store.removeFromUser(user, id)))
    return sessions
  }

  /**
   * Ends all sessions of a user, on every instance at once.
   *
   * @param except a session to keep, e.g. the current one for "log out everywhere else"
   * @returns how many sessions ended
   * @throws FLEET_ERR_STATE_UNAVAILABLE, FLEET_ERR_OPTION_INVALID if `userId` identifies no user, for example `'undefined'`
   */
  async destroyAll(userId: string | number, { except }: { except?: string } = {}): Promise<number> {
    const user = requireUser(userId)
    const ids = (await this.#store.idsOfUser(user)).filter((id) => id !== except)
    const ended = await Promise.all(ids.map((id) => this.#store.destroy(id)))
    await Promise.all(ids.map((id) => this.#store.removeFromUser(user, id)))
    const count = ended.filter(Boolean).length
    this.counts.destroyed += count
    return count
  }

  load(id: string): MaybePromise<SessionRecord | undefined> {
    return chain(this.#store.read(id), (read) => {
      const record = read instanceof CachedRecord ? read.load() : parseRecord(id, read)
      if (record) this.counts.loaded++
      return record
    })
  }

  snapshot(data: SessionData): string {
    return serialize(data)
  }

  isChanged(snapshot: string, baseline: string): boolean {
    // Equal data may be in another order: JSON.parse() moves names that are numbers to the front.
    return snapshot !== baseline && difference(baseline, snapshot).size > 0
  }

  create(id: string, data: SessionData, cookie: StoredCookie): MaybePromise<unknown> {
    const ttlMs = lifetimeOf(cookie, this.#ttlMs)
    const user = this.#userToIndex(data)
    const text = serialize(data)
    checkSize(text, this.maxBytes)
    // The index comes first, so that destroyAll() finds every session that exists.
    const indexed = user === undefined ? undefined : this.#store.addToUser(user, id, ttlMs)
    const written = this.#store.write(id, joinText(JSON.stringify(cookie), text), ttlMs)
    return chain(both(indexed, written), () => {
      this.counts.created++
    })
  }

  update(id: string, data: SessionData, baseline: string, cookie?: StoredCookie): MaybePromise<boolean> {
    const text = serialize(data)
    checkSize(text, this.maxBytes, baseline)
    const before = this.#userInText(baseline)
    const user = this.#userToIndex(data)
    const ttlMs = cookie ? lifetimeOf(cookie, this.#ttlMs) : 0
    const written = this.rewritesOnSave
      ? this.#store.replace(id, joinText(JSON.stringify(cookie), text), ttlMs)
      : this.#store.merge(id, changes(baseline, text, cookie), ttlMs, this.maxBytes)
    const isNew = user !== undefined && (cookie || user !== before)
    const added = isNew ? this.#store.addToUser(user, id, ttlMs || this.#ttlMs) : undefined
    const removed = before !== undefined && user !== before ? this.#store.removeFromUser(before, id) : undefined
    return chain(both(written, both(added, removed)), ([isAlive]) => {
      if (isAlive) this.counts.saved++
      const undone = !isAlive && user !== undefined ? this.#store.removeFromUser(user, id) : undefined
      return chain(undone, () => isAlive)
    })
  }

  /** Extends the lifetime as the cookie says. The stored data does not change. */
  touch(id: string, data: SessionData, cookie: StoredCookie): MaybePromise<boolean> {
    return this.update(id, data, serialize(data), cookie)
  }

  destroy(id: string, baseline?: string): MaybePromise<unknown> {
    const user = baseline === undefined ? undefined : this.#userInText(baseline)
    const destroyed = this.#store.destroy(id)
    const removed = user === undefined ? undefined : this.#store.removeFromUser(user, id)
    return chain(both(destroyed, removed), ([existed]) => {
      if (existed) this.counts.destroyed++
    })
  }

  #userToIndex(data: SessionData): string | undefined {
    const user = this.#userOf(data)
    const value = data[this.#userId]
    if (user === undefined && isSet(value)) this.onUnlisted(this.#userId, value)
    return user
  }

  #userOf(data: SessionData): string | undefined {
    return userOf(data[this.#userId])
  }

  #userInText(text: string): string | undefined {
    const json = parseMembers(text).get(quote(this.#userId))
    try {
      return json === undefined ? undefined : this.#userOf({ [this.#userId]: JSON.parse(json) })
    } catch {
      // Another program wrote JSON that is not in the form of serialize().
      return undefined
    }
  }
}

/** Whether a field of a session has a value. */
export const isSet = (value: unknown): boolean => ![undefined, null, false, ''].includes(value as null)

/** Texts of values that identify no user. All sessions with such a value would be those of one user. */
const noUsers: ReadonlySet<string> = new Set(['', 'undefined', 'null', 'NaN', '[object Object]'])

function userOf(value: unknown): string | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : undefined
  return typeof value === 'string' && !noUsers.has(value) ? value : undefined
}

function requireUser(value: unknown): string {
  const user = userOf(typeof value === 'bigint' ? String(value) : value)
  if (user !== undefined) return user
  throw new FleetError('FLEET_ERR_OPTION_INVALID', `\`userId\` must be the id of a user, not ${describeType(value)}`)
}

/** The type of a value, or the text of a string that identifies no user. */
export const describeType = (value: unknown): string => {
  if (typeof value === 'string') return `the string '${value}'`
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

function lastVisit(cookie: StoredCookie): Pick<UserSession, 'expires' | 'lastSeen' | 'device'> {
  const { at, originalMaxAge, agent = null } = cookie
  const expires = cookie.expires ? new Date(cookie.expires) : null
  const seen = at ?? (expires && originalMaxAge ? expires.getTime() - originalMaxAge : undefined)
  return { expires, lastSeen: seen === undefined ? null : new Date(seen), device: agent }
}

function changes(baseline: string, text: string, cookie?: StoredCookie): Map<string, string> {
  const found = difference(baseline, text)
  if (cookie) found.set('"cookie"', JSON.stringify(cookie))
  return found
}
