import { guarded, type RedisClient, script, unavailable } from '../redis.ts'
import type { Later } from './later.ts'
import type { Kept } from './loaded.ts'
import { type Members, merge, mergeScript } from './text.ts'

/** Where the texts of sessions are, and which of them belong to a user. */
export interface SessionEngine {
  readonly kind: 'redis' | 'memory'
  /** @returns its text; from an engine that {@link Kept keeps} what it has read, that */
  read(id: string): Later<string | Kept | null>
  /** Writes the whole session, whether there was one or not. */
  put(id: string, text: string, ttlMs: number): Later<void>
  /** Writes the whole session. @returns false, and does nothing, when it has ended */
  replace(id: string, text: string, ttlMs: number): Later<boolean>
  /** Writes what has changed; `ttlMs` 0 leaves its life alone. @returns false, and does nothing, when it has ended */
  merge(id: string, changes: Members, ttlMs: number): Later<boolean>
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
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1`

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

  async merge(id: string, changes: Members, ttlMs: number): Promise<boolean> {
    return (await this.#merge(this.#session(id), ttlMs, ...[...changes].flat())) === 1
  }

  async destroy(id: string): Promise<boolean> {
    return (await guarded(this.#client.unlink(this.#session(id)))) === 1
  }

  async remember(user: string, id: string, ttlMs: number): Promise<void> {
    const now = Date.now()
    await this.#remember(this.#user(user), now, now + ttlMs, id, ttlMs)
  }

  async forget(user: string, id: string): Promise<void> {
    await guarded(this.#client.zrem(this.#user(user), id))
  }

  ids(user: string): Promise<string[]> {
    return guarded(this.#client.zrange(this.#user(user), 0, '-1'))
  }

  #session(id: string): string {
    return this.#key('session', id)
  }

  #user(user: string): string {
    return this.#key('user-sessions', user)
  }
}

const maxSessions = 100_000

/** For one process, which it answers at once. At most 100,000 sessions: the one that was written longest ago makes room. */
export class MemorySessions implements SessionEngine {
  readonly kind = 'memory'
  /** In the order they were written. */
  readonly #sessions = new Map<string, { text: string; expires: number }>()
  readonly #users = new Map<string, string>()

  read(id: string): string | null {
    const session = this.#sessions.get(id)
    if (session && session.expires > Date.now()) return session.text
    this.#drop(id)
    return null
  }

  put(id: string, text: string, ttlMs: number): void {
    const now = Date.now()
    this.#sessions.delete(id)
    this.#sessions.set(id, { text, expires: now + ttlMs })
    for (const [oldest, { expires }] of this.#sessions) {
      if (expires > now && this.#sessions.size <= maxSessions) break
      this.#drop(oldest)
    }
  }

  replace(id: string, text: string, ttlMs: number): boolean {
    if (this.read(id) === null) return false
    this.put(id, text, ttlMs)
    return true
  }

  merge(id: string, changes: Members, ttlMs: number): boolean {
    const session = this.#sessions.get(id)
    const left = session ? session.expires - Date.now() : 0
    if (!session || left <= 0) return false
    this.put(id, merge(session.text, changes), ttlMs || left)
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

  #drop(id: string): boolean {
    this.#users.delete(id)
    return this.#sessions.delete(id)
  }
}
