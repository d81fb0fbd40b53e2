import { detached } from '../../base/detached.ts'
import type { MaybePromise } from '../../base/maybe-promise.ts'
import { guarded, keysOf, type RedisClient, script, unavailable } from '../redis/index.ts'
import { Tracking } from '../redis/tracking.ts'
import { CachedRecord, type Members, tooLarge } from './record.ts'
import type { RecordStore } from './store.ts'

/**
 * Merges changed members into a session. KEYS[1] the session; ARGV[1] its time to live in ms, 0 to keep it; ARGV[2] the
 * most bytes of its data; then name and JSON of each change. Returns 1, or without a write: 0 if the session does not
 * exist, -1 if it would become too large.
 */
const mergeScript = `
local text = redis.call('GET', KEYS[1])
if not text then return 0 end
local changes, members, before, size = {}, {}, 2, 2
for i = 3, #ARGV, 2 do changes[ARGV[i]] = ARGV[i + 1] end
local function add(name, json)
  members[#members + 1] = name .. ':' .. json
  if name ~= '"cookie"' then size = size + #name + #json + 3 end
end
for name, json in string.gmatch(text, '[{,]("[^"\\n]*"):([^\\n]*)\\n') do
  if name ~= '"cookie"' then before = before + #name + #json + 3 end
  json = changes[name] or json
  changes[name] = nil
  if json ~= '' then add(name, json) end
end
for i = 3, #ARGV, 2 do
  local json = changes[ARGV[i]]
  if json and json ~= '' then add(ARGV[i], json) end
end
if size > tonumber(ARGV[2]) and size > before then return -1 end
text = '{' .. table.concat(members, '\\n,') .. '\\n}'
if ARGV[1] == '0' then
  redis.call('SET', KEYS[1], text, 'KEEPTTL')
else
  redis.call('SET', KEYS[1], text, 'PX', ARGV[1])
end
return 1`

/** KEYS[1] ids of a user's sessions, scored by their end; ARGV: now, end, id, ttl (ms). Expires with its last entry. */
const addToUserScript = `
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1`

/** A key of another type was written by another program. It counts as missing and is not an outage. */
const onWrongType =
  <T>(fallback: T) =>
  (error: Error): T => {
    if (error.message.startsWith('WRONGTYPE')) return fallback
    throw error
  }

/** Keeps sessions in Redis. Every method rejects with FLEET_ERR_STATE_UNAVAILABLE or FLEET_ERR_STATE_FULL. */
export class RedisRecordStore implements RecordStore {
  readonly kind = 'redis'
  readonly #client: RedisClient
  readonly #key: (kind: string, id: string) => string
  readonly #merge: (...args: (string | number)[]) => Promise<number>
  readonly #addToUser: (...args: (string | number)[]) => Promise<number>

  /** @param name name of the fleet, the first part of every key */
  constructor(client: RedisClient, name: string) {
    this.#client = client
    this.#key = keysOf(name)
    this.#merge = script(client, 'fleetSessionMerge', 1, mergeScript)
    this.#addToUser = script(client, 'fleetSessionAddToUser', 1, addToUserScript)
  }

  read(id: string): MaybePromise<string | CachedRecord | null> {
    return this.#client.get(this.#key('session', id)).catch((error: Error) => {
      if (error.message.startsWith('WRONGTYPE')) return null
      throw unavailable(error)
    })
  }

  /** @returns ms until the session ends; negative if it does not exist or never ends */
  timeToLive(id: string): Promise<number> {
    return guarded(this.#client.pttl(this.#key('session', id)))
  }

  async write(id: string, text: string, ttlMs: number): Promise<void> {
    await guarded(this.#client.set(this.#key('session', id), text, 'PX', ttlMs))
  }

  async replace(id: string, text: string, ttlMs: number): Promise<boolean> {
    return (await guarded(this.#client.set(this.#key('session', id), text, 'PX', ttlMs, 'XX'))) !== null
  }

  async merge(id: string, changes: Members, ttlMs: number, maxBytes: number): Promise<boolean> {
    const outcome = await this.#merge(this.#key('session', id), ttlMs, maxBytes, ...[...changes].flat())
    if (outcome === -1) throw tooLarge(maxBytes)
    return outcome === 1
  }

  async destroy(id: string): Promise<boolean> {
    return (await guarded(this.#client.unlink(this.#key('session', id)))) === 1
  }

  async addToUser(user: string, id: string, ttlMs: number): Promise<void> {
    const now = Date.now()
    await this.#addToUser(this.#key('user-sessions', user), now, now + ttlMs, id, ttlMs)
  }

  async removeFromUser(user: string, id: string): Promise<void> {
    await guarded(this.#client.zrem(this.#key('user-sessions', user), id).catch(onWrongType(0)))
  }

  idsOfUser(user: string): Promise<string[]> {
    return guarded(this.#client.zrange(this.#key('user-sessions', user), 0, '-1').catch(onWrongType<string[]>([])))
  }
}

const maxCached = 10_000
/** Characters of all cached sessions together. */
const maxCachedLength = 64 * 1024 * 1024

interface CacheEntry {
  readonly record: CachedRecord
  readonly length: number
  /** When the session ends, in ms of `performance.now()`. Redis announces an expired key, but not to the millisecond. */
  readonly until: number
}

/**
 * Also caches what it has read in the memory of this process (the option `track`). Redis announces every change, and
 * while the announcements cannot be received, the cache is not used.
 */
export class TrackedRecordStore extends RedisRecordStore {
  /** Reads that needed no command. */
  hits = 0
  readonly #tracking: Tracking
  readonly #cache = new Map<string, CacheEntry>()
  #length = 0
  /** Reads in progress. A read is not cached if the session changes meanwhile. */
  readonly #reading = new Map<string, symbol>()

  /** @param rejected called when this Redis does not support tracking, or forbids it */
  constructor(client: RedisClient, name: string, rejected: (reason: string) => void) {
    super(client, name)
    const [before, after] = keysOf(name)('session', '\n').split('\n') as [string, string]
    this.#tracking = new Tracking(client, before, {
      changed: (key) => this.#invalidate(key.slice(before.length, -after.length)),
      missed: () => {
        this.#cache.clear()
        this.#length = 0
        this.#reading.clear()
      },
      rejected,
    })
  }

  override read(id: string): MaybePromise<string | CachedRecord | null> {
    const now = performance.now()
    if (!this.#tracking.isCurrent(now)) return super.read(id)
    const entry = this.#cache.get(id)
    if (!entry || now >= entry.until) return this.#fetch(id)
    this.hits++
    return entry.record
  }

  override write(id: string, text: string, ttlMs: number): Promise<void> {
    return this.#written(id, super.write(id, text, ttlMs))
  }

  override replace(id: string, text: string, ttlMs: number): Promise<boolean> {
    return this.#written(id, super.replace(id, text, ttlMs))
  }

  override merge(id: string, changes: Members, ttlMs: number, maxBytes: number): Promise<boolean> {
    return this.#written(id, super.merge(id, changes, ttlMs, maxBytes))
  }

  override destroy(id: string): Promise<boolean> {
    return this.#written(id, super.destroy(id))
  }

  close(): void {
    this.#tracking.close()
  }

  async #fetch(id: string): Promise<string | null> {
    const read = Symbol(id)
    this.#reading.set(id, read)
    const asked = performance.now()
    try {
      const [text, ttlMs] = await Promise.all([super.read(id) as Promise<string | null>, this.timeToLive(id)])
      if (text !== null && ttlMs > 0 && this.#reading.get(id) === read) this.#add(id, text, asked + ttlMs)
      return text
    } finally {
      if (this.#reading.get(id) === read) this.#reading.delete(id)
    }
  }

  /** Invalidates the session after a write of this process, without waiting for the announcement. */
  async #written<T>(id: string, writing: Promise<T>): Promise<T> {
    try {
      return await writing
    } finally {
      this.#invalidate(id)
    }
  }

  #add(id: string, text: string, until: number): void {
    this.#remove(id)
    // A signer of the app may return a part of the cookie.
    const own = detached(id)
    this.#cache.set(own, { record: new CachedRecord(own, text), length: text.length, until })
    this.#length += text.length
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= maxCached && this.#length <= maxCachedLength) break
      this.#remove(oldest)
    }
  }

  #remove(id: string): void {
    this.#length -= this.#cache.get(id)?.length ?? 0
    this.#cache.delete(id)
  }

  #invalidate(id: string): void {
    this.#remove(id)
    this.#reading.delete(id)
  }
}
