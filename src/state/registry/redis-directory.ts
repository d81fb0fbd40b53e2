import type { FastifyInstance } from 'fastify'
import { type RedisClient, script } from '../redis/index.ts'

/** What an instance says of itself. */
export interface Entry {
  readonly id: string
  /** Tells this process from another one of the same id. */
  readonly boot: string
  /** Changes rarely, and every peer hears of each change. */
  readonly facts: string
  /** Changes with each beat; peers read it as they go round. */
  readonly load: string
}

/** How far a reader has read. */
export interface Position {
  /** Which life of the directory: it gets a new one when Redis lost its data. */
  readonly epoch: string
  readonly version: number
}

export interface Answer extends Position {
  /** Everything there is, because the position was not one to go on from. */
  readonly full: boolean
  /** New facts by id; `undefined` for one that has left. */
  readonly changes: ReadonlyMap<string, string | undefined>
  /** Loads of the instances asked for. */
  readonly loads: ReadonlyMap<string, string>
  /** Whether this call itself changed anything: the others are to be told. */
  readonly changed: boolean
  /** What another process left under the same id, `boot facts`: `displaced` before this call, or still. */
  readonly rival?: string
  /** What was there was not of a registry, and has been removed. */
  readonly reset: boolean
}

interface Question {
  /** How long the entry stays without another beat, ms. */
  readonly leaseMs: number
  /** Whether to take the id from another process that holds it. */
  readonly claim: boolean
  readonly from: Position
  /** Ids whose loads are wanted. */
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
]

/**
 * The fleet's list in Redis. One beat is one script, whose cost does not depend on the size of the fleet: it renews a
 * lease (a sorted set by the time it ends), takes out those whose lease has ended (each once, by whoever comes first), and
 * answers with what changed since the caller's position (a sorted set by version) and with a few peers' figures. Reading
 * the whole list on each beat would cost a fleet of N instances N² entries per interval.
 *
 * All times are those of Redis's own clock. When nobody has called for a whole lease, then it was Redis that was away,
 * and nobody is taken out before all have had the time to come back.
 */
export class Directory {
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
  async beat(entry: Entry | undefined, question: Question): Promise<Answer> {
    try {
      return this.#answer(await this.#ask(entry, question), question.sample, false)
    } catch (error) {
      if (!isForeign(error)) throw error
      // As after a loss of Redis's data: everyone comes back with the next beat.
      await this.#reset(...this.#keys)
      return this.#answer(await this.#ask(entry, question), question.sample, true)
    }
  }

  #ask(entry: Entry | undefined, { leaseMs, claim, from, sample }: Question): Promise<Raw> {
    const { id = '', boot = '', facts = '', load = '' } = entry ?? {}
    return this.#beat(
      ...[...this.#keys, id, boot, facts, load, leaseMs, claim ? 1 : 0, from.epoch, from.version, ...sample],
    )
  }

  #answer([epoch, version, full, changed, rival, rows, loads]: Raw, sample: readonly string[], reset: boolean): Answer {
    const changes = new Map<string, string | undefined>()
    for (let i = 0; i < rows.length; i += 2) changes.set(rows[i] as string, rows[i + 1] || undefined)
    return {
      epoch,
      version,
      full: full === 1,
      changed: changed === 1,
      rival: rival || undefined,
      reset,
      changes,
      loads: new Map(
        sample.map((id, i) => [id, loads[i]]).filter((pair): pair is [string, string] => Boolean(pair[1])),
      ),
    }
  }

  /** @returns whether the entry was there */
  async leave({ id, boot }: Pick<Entry, 'id' | 'boot'>): Promise<boolean> {
    return (await this.#leave(...this.#keys, id, boot)) === 1
  }
}

/** A key of another type, or a value that is no number: whoever may write to this Redis can put it there. */
const isForeign = (error: unknown): boolean =>
  /^(?:WRONGTYPE|ERR .*(?:not an integer|not a valid float|overflow|attempt to ))/.test(
    String(((error as Error).cause as Error | undefined)?.message),
  )

/** So many changes are kept: who is further behind reads everything. */
const changesKept = 1000
/** The longest that a client waits between two attempts to connect, and some. */
export const reconnectMs = 3000
/** Nothing of a registry lies further ahead, ms; nor is it larger, in bytes, or are there more instances. */
const [longestMs, maxFacts, maxLoad, maxInstances, maxReply] = [600_000, 16_384, 1024, 10_000, 16_777_216]

const commonLua = `
  local lease, facts, load, changes, meta = unpack(KEYS)
  local function changed(id)
    local version = redis.call('HINCRBY', meta, 'version', 1)
    -- One that is ahead of the version would be read for ever, and outlive all that are none.
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
  -- Without a lease nobody would ever take it out. Facts that are missing were taken by somebody else.
  local left = ${maxReply}
  local function entry(id)
    if not redis.call('ZSCORE', lease, id) then return '' end
    local stored = left > 0 and short(facts, id, ${maxFacts}) or ''
    left = left - #stored
    return stored == '' and '?' or stored
  end
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
  if not spare or not (spare <= now + ${longestMs + reconnectMs}) then spare = 0 end
  if not current then
    current = time[1] .. '.' .. time[2]
    redis.call('HSET', meta, 'epoch', current)
  end

  if beat and now - beat > ttl then
    spare = now + ttl + ${reconnectMs}
    redis.call('HSET', meta, 'spare', spare)
  end
  redis.call('HSET', meta, 'beat', now)
  redis.call('ZREMRANGEBYSCORE', lease, '(' .. now + ${longestMs}, '+inf')

  local rival = ''
  if id ~= '' then
    local stored = redis.call('HGET', facts, id)
    if stored and owner(stored) ~= boot then rival = string.sub(stored, 1, ${maxFacts}) end
    if rival == '' or claim then
      local isNew = redis.call('ZADD', lease, now + ttl, id) == 1
      redis.call('HSET', load, id, ownLoad)
      if stored ~= boot .. ' ' .. own then
        redis.call('HSET', facts, id, boot .. ' ' .. own)
        isNew = true
      end
      if isNew then changed(id) end
    end
  end
  if now >= spare then
    for _, dead in ipairs(redis.call('ZRANGEBYSCORE', lease, '-inf', now, 'LIMIT', 0, 100)) do remove(dead) end
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
  return {current, version, full and 1 or 0, version > before and 1 or 0, rival, rows, loads}`

const leaveLua = `${commonLua}
  if owner(redis.call('HGET', facts, ARGV[1])) ~= ARGV[2] then return 0 end
  remove(ARGV[1])
  return 1`
