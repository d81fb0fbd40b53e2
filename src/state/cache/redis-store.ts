import { type RedisClient, script, textLua } from '../redis/index.ts'
import {
  newId,
  type SharedCacheStore,
  type SharedRead,
  type SharedReadOptions,
  type SharedValue,
  type SharedWrite,
} from './store.ts'
import { decode } from './value.ts'

/**
 * The shared tier in Redis. Each key has a string with its value, and a lease while an instance loads it (Nishtala et al.,
 * "Scaling Memcache at Facebook", NSDI 2013). Clocks of two instances are never compared: the remaining freshness is the
 * key's time to live minus the time it is stored when stale.
 *
 * A tag is a random stamp. Deleting the stamp invalidates the values that carry it, however many there are and in
 * whichever Cluster slots. Eviction of a stamp has the same effect, so an invalid value never comes back.
 */
export class RedisCacheStore implements SharedCacheStore {
  readonly #client: RedisClient
  readonly #key: (kind: string, id: string) => string
  readonly #run: Record<keyof typeof scripts, (...args: (string | number)[]) => Promise<unknown>>

  constructor(client: RedisClient, key: (kind: string, id: string) => string) {
    this.#client = client
    this.#key = key
    this.#run = {
      read: script(client, 'fleetCacheRead', 2, scripts.read),
      put: script(client, 'fleetCachePut', 2, scripts.put),
      fill: script(client, 'fleetCacheFill', 2, scripts.fill),
      renew: script(client, 'fleetCacheRenew', 1, scripts.renew),
      stamp: script(client, 'fleetCacheStamp', 1, scripts.stamp),
    }
  }

  async read(key: string, { token = '', leaseMs = 0, reject = '' }: SharedReadOptions = {}): Promise<SharedRead> {
    const reply = await this.#run.read(this.#value(key), this.#lease(key), token, leaseMs, reject)
    const [text, leftMs, leased] = reply as [string | null, number, number]
    if (text === null) return { leased: leased === 1 }
    const found = parse(text, leftMs)
    // Not written by a cache: treat as absent.
    if (found || leased === 1 || !token) return { found, leased: leased === 1 }
    return this.read(key, { token, leaseMs, reject: text.slice(0, 16) })
  }

  async put(key: string, value: SharedWrite): Promise<void> {
    await this.#run.put(this.#value(key), this.#lease(key), format(value), value.freshMs + value.keepMs)
  }

  async fill(key: string, token: string, value?: SharedWrite): Promise<boolean> {
    const [text, life] = value ? [format(value), value.freshMs + value.keepMs] : ['', 0]
    return (await this.#run.fill(this.#value(key), this.#lease(key), token, text, life)) === 1
  }

  async renew(key: string, token: string, leaseMs: number): Promise<void> {
    await this.#run.renew(this.#lease(key), token, leaseMs)
  }

  async delete(key: string): Promise<void> {
    await this.#client.del(this.#value(key), this.#lease(key))
  }

  async stamps(tags: readonly string[], lifeMs: number): Promise<Record<string, string>> {
    const stamp = async (tag: string): Promise<[string, string]> => [
      tag,
      (await this.#run.stamp(this.#key('cache-tag', tag), newId(), lifeMs)) as string,
    ]
    return Object.fromEntries(await Promise.all(tags.map(stamp)))
  }

  async deleteStamp(tag: string): Promise<void> {
    await this.#client.del(this.#key('cache-tag', tag))
  }

  #value(key: string): string {
    return this.#key('cache', key)
  }

  #lease(key: string): string {
    return this.#key('cache-lease', key)
  }
}

/** `id keepMs stamps`, a line feed, then the value: Lua reads the first line without decoding the value. */
function format({ json, stamps, keepMs }: SharedWrite): string {
  return `${newId()} ${keepMs} ${JSON.stringify(stamps)}\n${json}`
}

/** Rejects a corrupt value; no real value has that many tags. */
const maxTags = 10_000

/** @returns `undefined` for a value in another format: other applications may write to this Redis */
function parse(text: string, leftMs: number): SharedValue | undefined {
  const end = text.indexOf('\n')
  const [, id, keepMs, tags] = /^(\S{16}) (\d{1,15}) (\{.*\})$/.exec(text.slice(0, end)) ?? []
  if (id === undefined || tags === undefined) return undefined
  try {
    const stamps = JSON.parse(tags) as Record<string, string>
    const all = Object.entries(stamps)
    if (all.length > maxTags || all.some(([, stamp]) => typeof stamp !== 'string')) return undefined
    const json = text.slice(end + 1)
    return { id, value: decode(json), bytes: Buffer.byteLength(json), stamps, freshMs: leftMs - Number(keepMs) }
  } catch {
    return undefined
  }
}

/** A lease holds the token of the loading instance; a trailing `!` means that others wait. */
const scripts = {
  read: `${textLua}
    local value, left = text(KEYS[1]), 0
    local keep = value and tonumber(string.match(value, '^%S+ (%d+) '))
    if not keep or string.sub(value, 1, 16) == ARGV[3] then value = false end
    if value then
      left = redis.call('PTTL', KEYS[1])
      if left > keep then return {value, left, 0} end
    end
    if ARGV[1] == '' then return {value, left, 0} end
    -- A lease without expiry, or with one far ahead, is not ours.
    local lease = text(KEYS[2])
    local rest = lease and redis.call('PTTL', KEYS[2])
    if not lease or rest < 0 or rest > 10 * ARGV[2] then
      redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
      return {value, left, 1}
    end
    if string.sub(lease, -1) ~= '!' then redis.call('APPEND', KEYS[2], '!') end
    return {value, left, 0}`,
  put: `
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return redis.call('DEL', KEYS[2])`,
  fill: `${textLua}
    local lease = text(KEYS[2])
    if not lease or string.sub(lease, 1, 16) ~= ARGV[1] then return 0 end
    if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
    redis.call('DEL', KEYS[2])
    return string.sub(lease, -1) == '!' and 1 or 0`,
  renew: `${textLua}
    local lease = text(KEYS[1])
    if not lease or string.sub(lease, 1, 16) ~= ARGV[1] then return 0 end
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])`,
  stamp: `${textLua}
    local stamp = text(KEYS[1])
    if not stamp or #stamp > 64 then
      stamp = ARGV[1]
      redis.call('SET', KEYS[1], stamp)
    end
    if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
    return stamp`,
} as const
