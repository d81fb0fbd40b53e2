import { guarded, type RedisClient, script, unavailable } from '../redis/index.ts'
import type { Later } from './later.ts'
import type { Kept } from './loaded.ts'
import { isAnonymous, type Members, merge, mergeScript, tooLarge } from './text.ts'

/** Where the texts of sessions are, and which of them belong to a user. */
export interface SessionEngine {
  readonly kind: 'redis' | 'memory'
  /** @returns its text; from an engine that {@link Kept keeps} what it has read, that */
  read(id: string): Later<string | Kept | null>
  /** Writes the whole session, whether there was one or not. */
  put(id: string, text: string, ttlMs: number): Later<void>
  /** Writes the whole session. @returns false, and does nothing, when it has ended */
  replace(id: string, text: string, ttlMs: number): Later<boolean>
  /**
   * Writes what has changed; `ttlMs` 0 leaves its life alone.
   *
   * @returns false, and does nothing, when it has ended
   * @throws FLEET_ERR_SESSION_TOO_LARGE, with nothing written, when what others have changed meanwhile leaves no space for it
   */
  merge(id: string, changes: Members, ttlMs: number, maxBytes: number): Later<boolean>
  /** @returns whether there was one */
  destroy(id: string): Later<boolean>
  /** Notes that a session belongs to a user, for as long as it lives. */
  remember(user: string, id: string, ttlMs: number): Later<void>
  forget(user: string, id: string): Later<void>
  /** Sessions that belong to a user, or did so a while ago. */
  ids(user: string): Later<string[]>
}

/** KEYS[1] the user's sessions by end of life; ARGV: now, end, id, ttl (ms). The index lives as long as its last entry. */
const rememberScript = `
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1`

/** Something else of that name is none of ours, and no outage either. */
const wrongType =
  <T>(instead: T) =>
  (error: Error): T => {
    if (error.message.startsWith('WRONGTYPE')) return instead
    throw error
  }

export class RedisSessions implements SessionEngine {
  readonly kind = 'redis'
  readonly #client: RedisClient
  readonly #key: (kind: string, id: string) => string
  readonly #merge: (...args: (string | number)[]) => Promise<number>
  readonly #remember: (...args: (string | number)[]) => Promise<number>

  constructor(client: RedisClient, key: (kind: string, id: string) => string) {
    this.#client = client
    this.#key = key
    this.#merge = script(client, 'fleetSessionMerge', 1, mergeScript)
    this.#remember = script(client, 'fleetSessionRemember', 1, rememberScript)
  }

  read(id: string): Later<string | Kept | null> {
    return this.#client.get(this.#session(id)).catch((error: Error) => {
      // Something else of that name is no session, and no outage either.
      if (error.message.startsWith('WRONGTYPE')) return null
      throw unavailable(error)
    })
  }

  /** Milliseconds that a session has left; negative: it has none, or no end. */
  life(id: string): Promise<number> {
    return guarded(this.#client.pttl(this.#session(id)))
  }

  async put(id: string, text: string, ttlMs: number): Promise<void> {
    await guarded(this.#client.set(this.#session(id), text, 'PX', ttlMs))
  }

  async replace(id: string, text: string, ttlMs: number): Promise<boolean> {
    return (await guarded(this.#client.set(this.#session(id), text, 'PX', ttlMs, 'XX'))) !== null
  }

  async merge(id: string, changes: Members, ttlMs: number, maxBytes: number): Promise<boolean> {
    const outcome = await this.#merge(this.#session(id), ttlMs, maxBytes, ...[...changes].flat())
    if (outcome === -1) throw tooLarge(maxBytes)
    return outcome === 1
  }

  async destroy(id: string): Promise<boolean> {
    return (await guarded(this.#client.unlink(this.#session(id)))) === 1
  }

  async remember(user: string, id: string, ttlMs: number): Promise<void> {
    const now = Date.now()
    await this.#remember(this.#user(user), now, now + ttlMs, id, ttlMs)
  }

  async forget(user: string, id: string): Promise<void> {
    await guarded(this.#client.zrem(this.#user(user), id).catch(wrongType(0)))
  }

  ids(user: string): Promise<string[]> {
    return guarded(this.#client.zrange(this.#user(user), 0, '-1').catch(wrongType<string[]>([])))
  }

  #session(id: string): string {
    return this.#key('session', id)
  }

  #user(user: string): string {
    return this.#key('user-sessions', user)
  }
}

const maxSessions = 100_000
/** Characters of all sessions together. */
const maxLength = 128 * 1024 * 1024

interface Entry {
  readonly text: string
  readonly expires: number
}

/** For one process, which it answers at once. */
export class MemorySessions implements SessionEngine {
  readonly kind = 'memory'
  /** Each in the order they were written: those that nobody has logged in to make room first. */
  readonly #anonymous = new Map<string, Entry>()
  readonly #others = new Map<string, Entry>()
  readonly #users = new Map<string, string>()
  readonly #maxSessions: number
  readonly #maxLength: number
  #length = 0

  /** At most 100,000 sessions with 128 Mi characters by default; the one that was written longest ago makes room. */
  constructor(limits: { maxSessions?: number; maxLength?: number } = {}) {
    this.#maxSessions = limits.maxSessions ?? maxSessions
    this.#maxLength = limits.maxLength ?? maxLength
  }

  get size(): number {
    return this.#anonymous.size + this.#others.size
  }

  read(id: string): string | null {
    const session = this.#find(id)
    if (session && session.expires > Date.now()) return session.text
    this.#drop(id)
    return null
  }

  put(id: string, text: string, ttlMs: number): void {
    const now = Date.now()
    const user = this.#users.get(id)
    this.#drop(id)
    if (user !== undefined) this.#users.set(id, user)
    const sessions = isAnonymous(text) ? this.#anonymous : this.#others
    sessions.set(id, { text, expires: now + ttlMs })
    this.#length += text.length
    for (const map of [this.#anonymous, this.#others])
      for (const [oldest, { expires }] of map) {
        if (expires > now && this.size <= this.#maxSessions && this.#length <= this.#maxLength) break
        this.#drop(oldest)
      }
  }

  replace(id: string, text: string, ttlMs: number): boolean {
    if (this.read(id) === null) return false
    this.put(id, text, ttlMs)
    return true
  }

  merge(id: string, changes: Members, ttlMs: number, maxBytes: number): boolean {
    const session = this.#find(id)
    const left = session ? session.expires - Date.now() : 0
    if (!session || left <= 0) return false
    this.put(id, merge(session.text, changes, maxBytes), ttlMs || left)
    return true
  }

  destroy(id: string): boolean {
    return this.#drop(id)
  }

  remember(user: string, id: string): void {
    this.#users.set(id, user)
  }

  forget(user: string, id: string): void {
    if (this.#users.get(id) === user) this.#users.delete(id)
  }

  ids(user: string): string[] {
    return [...this.#users].filter(([, owner]) => owner === user).map(([id]) => id)
  }

  #find(id: string): Entry | undefined {
    return this.#others.get(id) ?? this.#anonymous.get(id)
  }

  #drop(id: string): boolean {
    this.#users.delete(id)
    const session = this.#find(id)
    if (!session) return false
    this.#length -= session.text.length
    return this.#others.delete(id) || this.#anonymous.delete(id)
  }
}
