import type { FastifyInstance } from 'fastify'
import { type RedisClient, script } from '../redis/index.ts'

/** The signed entry of an instance. */
export interface RegistryEntry {
  readonly id: string
  /** Distinguishes this process from another one with the same id. */
  readonly boot: string
  /** Changes rarely. Every peer reads each change. */
  readonly facts: string
  /** Changes with each heartbeat. Peers read it in rotation. */
  readonly load: string
}

/** The reader's position in the list of changes. */
export interface Position {
  /** Changes when Redis lost its data. */
  readonly epoch: string
  readonly version: number
}

export interface HeartbeatReply extends Position {
  /** The reply has all entries, because reading could not continue from the position. */
  readonly full: boolean
  /** New facts by id; `undefined` for an instance that has left. */
  readonly changes: ReadonlyMap<string, string | undefined>
  /** The last facts of instances that this call removed because their leases had ended. */
  readonly removed: ReadonlyMap<string, string>
  /** Loads of the instances in `sample`. */
  readonly loads: ReadonlyMap<string, string>
  /**
   * Whether this call changed the directory, so that the peers must be notified. They read a renewed signature with their next
   * heartbeat: if all of them read it at once, the cost of a heartbeat would grow with the fleet.
   */
  readonly changed: boolean
  /** `boot facts` of another process with the same id: the one that this call displaced, or the present owner. */
  readonly rival?: string
  /** The keys had other content and were deleted. */
  readonly reset: boolean
}

interface HeartbeatOptions {
  /** Lifetime of the entry without another heartbeat, ms. */
  readonly leaseMs: number
  /** Whether to take the id over from another process. */
  readonly claim: boolean
  readonly from: Position
  /** Ids whose loads to read. */
  readonly sample: readonly string[]
}

type Raw = [
  epoch: string,
  version: number,
  full: number,
  changed: number,
  rival: string,
  rows: string[],
  loads: string[],
  removed: string[],
]

/**
 * The list of instances in Redis. A heartbeat is one script whose cost does not depend on the size of the fleet. It renews the
 * caller's lease (a sorted set by expiry), removes expired instances, and returns the changes since the caller's position (a
 * sorted set by version) and the figures of a few peers. Reading the whole list would cost a fleet of N instances N² entries
 * per interval.
 *
 * All times are those of Redis's clock. If no instance has called for a whole lease, Redis was unavailable to them: then no
 * instance is removed until all have had the time to reconnect. Readers without an entry, such as a balancer, may reach Redis
 * meanwhile.
 */
export class RedisDirectory {
  readonly #keys: readonly string[]
  readonly #beat: (...args: (string | number)[]) => Promise<Raw>
  readonly #leave: (...args: (string | number)[]) => Promise<number>
  readonly #reset: (...args: (string | number)[]) => Promise<number>

  constructor(client: RedisClient, key: FastifyInstance['redisKey']) {
    this.#keys = ['lease', 'facts', 'load', 'changes', 'meta'].map((part) => key(`registry-${part}`, 'all'))
    this.#beat = script(client, 'fleetRegistryBeat', this.#keys.length, beatLua)
    this.#leave = script(client, 'fleetRegistryLeave', this.#keys.length, leaveLua)
    this.#reset = script(client, 'fleetRegistryReset', this.#keys.length, "return redis.call('DEL', unpack(KEYS))")
  }

  /**
   * @param entry `undefined` only reads
   * @throws FLEET_ERR_STATE_UNAVAILABLE
   */
  async beat(entry: RegistryEntry | undefined, options: HeartbeatOptions): Promise<HeartbeatReply> {
    try {
      return replyOf(await this.#send(entry, options), options.sample, false)
    } catch (error) {
      if (!isForeign(error)) throw error
      // As after a loss of data: every instance comes back with its next heartbeat.
      await this.#reset(...this.#keys)
      return replyOf(await this.#send(entry, options), options.sample, true)
    }
  }

  #send(entry: RegistryEntry | undefined, { leaseMs, claim, from, sample }: HeartbeatOptions): Promise<Raw> {
    const { id = '', boot = '', facts = '', load = '' } = entry ?? {}
    return this.#beat(
      ...[...this.#keys, id, boot, facts, load, leaseMs, claim ? 1 : 0, from.epoch, from.version, ...sample],
    )
  }

  /** @returns whether the entry was there */
  async leave({ id, boot }: Pick<RegistryEntry, 'id' | 'boot'>): Promise<boolean> {
    return (await this.#leave(...this.#keys, id, boot)) === 1
  }
}

function replyOf(
  [epoch, version, full, changed, rival, rows, loads, removed]: Raw,
  sample: readonly string[],
  reset: boolean,
): HeartbeatReply {
  const changes = new Map<string, string | undefined>()
  for (let i = 0; i < rows.length; i += 2) changes.set(rows[i] as string, rows[i + 1] || undefined)
  const last = new Map<string, string>()
  for (let i = 0; i < removed.length; i += 2) last.set(removed[i] as string, removed[i + 1] as string)
  const pairs = sample.map((id, i) => [id, loads[i]]).filter((pair): pair is [string, string] => Boolean(pair[1]))
  return {
    epoch,
    version,
    full: full === 1,
    changed: changed === 1,
    rival: rival || undefined,
    reset,
    changes,
    removed: last,
    loads: new Map(pairs),
  }
}

/** A key of another type, or a value that is not a number, which another application wrote. */
const isForeign = (error: unknown): boolean =>
  /^(?:WRONGTYPE|ERR .*(?:not an integer|not a valid float|overflow|attempt to ))/.test(
    String(((error as Error).cause as Error | undefined)?.message),
  )

/** Number of changes kept. A reader that is further behind reads all entries. */
const changesKept = 1000
/** Upper bound of the pause between two connection attempts of a client, ms. */
export const reconnectMs = 3000
/** Bounds of valid content: time ahead (ms), sizes (bytes), number of instances, bytes of one reply. */
const [maxAheadMs, maxFacts, maxLoad, maxInstances, maxReply] = [600_000, 16_384, 1024, 10_000, 16_777_216]

const commonLua = `
  local lease, facts, load, changes, meta = unpack(KEYS)
  local function changed(id)
    local version = redis.call('HINCRBY', meta, 'version', 1)
    -- A change ahead of the version would be returned for ever and outlive genuine ones.
    redis.call('ZREMRANGEBYSCORE', changes, string.format('(%d', version), '+inf')
    redis.call('ZADD', changes, version, id)
    redis.call('ZREMRANGEBYRANK', changes, 0, -${changesKept + 1})
  end
  local function remove(id)
    redis.call('ZREM', lease, id)
    redis.call('HDEL', facts, id)
    redis.call('HDEL', load, id)
    changed(id)
  end
  local function short(hash, id, most)
    return redis.call('HSTRLEN', hash, id) <= most and redis.call('HGET', hash, id) or ''
  end
  -- An entry without a lease would never expire. Missing facts were deleted by another application.
  local left = ${maxReply}
  local function entry(id)
    if not redis.call('ZSCORE', lease, id) then return '' end
    local stored = left > 0 and short(facts, id, ${maxFacts}) or ''
    left = left - #stored
    return stored == '' and '?' or stored
  end
  -- Facts without time and signature, which an instance renews without a change.
  local function unsigned(stored) return stored and string.match(stored, '^(.*),"signedAt":%d+,"mac":"[^"]*"}$') end
  -- Facts are stored as "boot facts".
  local function owner(stored) return stored and string.match(stored, '^%S+') end`

const beatLua = `${commonLua}
  local id, boot, own, ownLoad = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
  local ttl, claim, epoch, since = tonumber(ARGV[5]), ARGV[6] == '1', ARGV[7], tonumber(ARGV[8])
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)

  local known = redis.call('HMGET', meta, 'epoch', 'version', 'beat', 'spare')
  local current, before = known[1], tonumber(known[2] or 0)
  if not before or before < 0 or before > 1e13 or before % 1 ~= 0 then
    redis.call('DEL', changes, meta)
    current, before = false, 0
  end
  local spare, beat = tonumber(known[4] or 0), tonumber(known[3] or now)
  if not spare or not (spare <= now + ${maxAheadMs + reconnectMs}) then spare = 0 end
  if not current then
    current = time[1] .. '.' .. time[2]
    redis.call('HSET', meta, 'epoch', current)
  end

  -- A reader's call does not show that instances reach Redis.
  if id ~= '' then
    if beat and now - beat > ttl then
      spare = now + ttl + ${reconnectMs}
      redis.call('HSET', meta, 'spare', spare)
    end
    beat = now
    redis.call('HSET', meta, 'beat', now)
  end
  redis.call('ZREMRANGEBYSCORE', lease, '(' .. now + ${maxAheadMs}, '+inf')

  local rival, news = '', false
  if id ~= '' then
    local stored = redis.call('HGET', facts, id)
    if stored and owner(stored) ~= boot then rival = string.sub(stored, 1, ${maxFacts}) end
    if rival == '' or claim then
      news = redis.call('ZADD', lease, now + ttl, id) == 1
      redis.call('HSET', load, id, ownLoad)
      local written = boot .. ' ' .. own
      if stored ~= written then
        redis.call('HSET', facts, id, written)
        news = news or not unsigned(stored) or unsigned(stored) ~= unsigned(written)
      end
      if news or stored ~= written then changed(id) end
    end
  end
  local removed = {}
  if now >= spare then
    -- A lease that ended after the last call of any instance shows nothing about its own.
    local till = math.min(now, beat or now)
    for _, dead in ipairs(redis.call('ZRANGEBYSCORE', lease, '-inf', till, 'LIMIT', 0, 100)) do
      removed[#removed + 1] = dead
      removed[#removed + 1] = short(facts, dead, ${maxFacts})
      remove(dead)
      news = true
    end
  end

  local version = tonumber(redis.call('HGET', meta, 'version') or 0)
  local full = epoch ~= current or since > version or version - since > ${changesKept}
  local ids
  if not full then
    ids = redis.call('ZRANGEBYSCORE', changes, string.format('(%d', since), version, 'LIMIT', 0, version - since + 1)
    full = #ids > version - since
  end
  if full then ids = redis.call('ZRANGE', lease, 0, ${maxInstances - 1}) end
  local rows, loads = {}, {}
  for _, peer in ipairs(ids) do
    rows[#rows + 1] = peer
    rows[#rows + 1] = entry(peer)
  end
  for i = 9, #ARGV do loads[#loads + 1] = short(load, ARGV[i], ${maxLoad}) end
  return {current, version, full and 1 or 0, news and 1 or 0, rival, rows, loads, removed}`

const leaveLua = `${commonLua}
  if owner(redis.call('HGET', facts, ARGV[1])) ~= ARGV[2] then return 0 end
  remove(ARGV[1])
  return 1`
