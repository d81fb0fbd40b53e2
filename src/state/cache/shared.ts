import { randomBytes } from 'node:crypto'
import { type RedisClient, script, textLua } from '../redis/index.ts'
import { decode } from './value.ts'

/** A value as the fleet keeps it. */
export interface Shared {
  /** Unique to this write, 16 characters. */
  readonly id: string
  readonly value: unknown
  /** Size as JSON. */
  readonly bytes: number
  /** Each tag with the stamp it had before the value was loaded; the value is good while all of them still do. */
  readonly stamps: Readonly<Record<string, string>>
  /** How long it stays fresh; negative: for how long it has been stale, ms. */
  readonly freshMs: number
}

export interface Answer {
  /** Fresh, or stale and kept for those who may still serve it. */
  readonly found?: Shared
  /** True: the caller is now the one to load, until it calls {@link SharedStore.fill} or the lease runs out. */
  readonly leased: boolean
}

export interface Ask {
  /** Who asks for the lease when there is no fresh value; left out: nobody does. */
  token?: string
  leaseMs?: number
  /** The id of a value that is no longer good, to be taken for none. */
  reject?: string
}

export interface Fill {
  json: string
  stamps: Readonly<Record<string, string>>
  /** How long the value is fresh, and for how long it is kept after that, ms. */
  freshMs: number
  keepMs: number
}

/** What instances share of the cache. Every method answers within the client's bound, or throws. */
export interface SharedStore {
  ask(key: string, ask?: Ask): Promise<Answer>
  /** Keeps a value whatever was there, and ends any lease: what its holder loads is older than this. */
  put(key: string, value: Fill): Promise<void>
  /**
   * Gives the lease back, with the value if there is one; a lease that was lost meanwhile gives nothing away.
   *
   * @returns whether others wait for it
   */
  fill(key: string, token: string, value?: Fill): Promise<boolean>
  renew(key: string, token: string, leaseMs: number): Promise<void>
  /** Ends any lease with the value, so that a load that began before is not kept. */
  delete(key: string): Promise<void>
  /** The stamp of each tag, made where there is none, and kept for `lifeMs` at least. */
  stamps(tags: readonly string[], lifeMs: number): Promise<Record<string, string>>
  /** Makes every value with this tag invalid. */
  deleteStamp(tag: string): Promise<void>
}

export const newId = (): string => randomBytes(12).toString('base64url')

/**
 * The shared store in Redis. Per key: a string that holds the value, and the lease of whoever loads it (Nishtala et al.,
 * "Scaling Memcache at Facebook", NSDI 2013). No clock of an instance is ever compared with that of another: freshness
 * is what is left of the key's own time to live, less the time it is kept beyond.
 *
 * A tag is a random stamp. Deleting the stamp makes the values that carry it invalid, however many there are and in
 * whichever Cluster slots; a stamp that Redis evicted does the same, so that nothing old ever comes back.
 */
export class RedisStore implements SharedStore {
  readonly #client: RedisClient
  readonly #key: (kind: string, id: string) => string
  readonly #run: Record<keyof typeof scripts, (...args: (string | number)[]) => Promise<unknown>>

  constructor(client: RedisClient, key: (kind: string, id: string) => string) {
    this.#client = client
    this.#key = key
    this.#run = {
      ask: script(client, 'fleetCacheAsk', 2, scripts.ask),
      put: script(client, 'fleetCachePut', 2, scripts.put),
      fill: script(client, 'fleetCacheFill', 2, scripts.fill),
      renew: script(client, 'fleetCacheRenew', 1, scripts.renew),
      stamp: script(client, 'fleetCacheStamp', 1, scripts.stamp),
    }
  }

  async ask(key: string, { token = '', leaseMs = 0, reject = '' }: Ask = {}): Promise<Answer> {
    const reply = await this.#run.ask(this.#value(key), this.#lease(key), token, leaseMs, reject)
    const [text, leftMs, leased] = reply as [string | null, number, number]
    if (text === null) return { leased: leased === 1 }
    const found = parse(text, leftMs)
    // Not written by a cache: as if there were none.
    if (found || leased === 1 || !token) return { found, leased: leased === 1 }
    return this.ask(key, { token, leaseMs, reject: text.slice(0, 16) })
  }

  async put(key: string, value: Fill): Promise<void> {
    await this.#run.put(this.#value(key), this.#lease(key), format(value), value.freshMs + value.keepMs)
  }

  async fill(key: string, token: string, value?: Fill): Promise<boolean> {
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

/** `id keepMs stamps`, a line break, and the value: Lua reads the head without decoding what follows. */
function format({ json, stamps, keepMs }: Fill): string {
  return `${newId()} ${keepMs} ${JSON.stringify(stamps)}\n${json}`
}

/** More tags than a value can have. */
const maxTags = 10_000

/** @returns `undefined` for what no cache has written: others may write to this Redis too */
function parse(text: string, leftMs: number): Shared | undefined {
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

/** A lease is its holder's token; `!` behind it says that others wait. */
const scripts = {
  ask: `${textLua}
    local value, left = text(KEYS[1]), 0
    local keep = value and tonumber(string.match(value, '^%S+ (%d+) '))
    if not keep or string.sub(value, 1, 16) == ARGV[3] then value = false end
    if value then
      left = redis.call('PTTL', KEYS[1])
      if left > keep then return {value, left, 0} end
    end
    if ARGV[1] == '' then return {value, left, 0} end
    -- A lease always ends, and soon.
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
