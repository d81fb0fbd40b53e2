import type { FastifyInstance } from 'fastify'
import { guarded, type RedisClient, script } from '../redis/index.ts'
import { eventOf, fieldsOf, type NewEvent, type StoredEvent } from './events.ts'
import {
  addCount,
  type BucketKind,
  type Counts,
  type EventQuery,
  goneMs,
  type HistoryStore,
  type HistoryWrite,
  keptMs,
  limitMs,
  maxEvents,
  maxGone,
  maxLimited,
  maxRoutes,
  minuteMs,
  packed,
  type RecordOptions,
  routesMs,
  startOf,
  unpacked,
} from './store.ts'

/** Number of buckets that are read at once, so that no reply is large. */
const atOnce = 60

/**
 * The history of the fleet in Redis: a hash for each step and minute, a hash of routes for every three minutes, and a stream of events.
 * All keys share the slot of the registry. An instance writes once per step, in one script. Nothing is signed, because
 * nothing depends on it but what operators see.
 */
export class RedisHistoryStore implements HistoryStore {
  readonly #client: RedisClient
  readonly #key: FastifyInstance['redisKey']
  readonly #events: string
  readonly #gone: string
  readonly #limits: string
  readonly #time: (...args: (string | number)[]) => Promise<number>
  readonly #add: (...args: (string | number)[]) => Promise<number>
  readonly #record: (...args: (string | number)[]) => Promise<number>
  readonly #unrecorded: (...args: (string | number)[]) => Promise<string[]>

  constructor(client: RedisClient, key: FastifyInstance['redisKey']) {
    this.#client = client
    this.#key = key
    this.#events = key('history-events', 'all')
    this.#gone = key('history-gone', 'all')
    this.#limits = key('history-limits', 'all')
    this.#time = script(client, 'fleetHistoryTime', 1, `${clockLua} return now`)
    this.#add = script(client, 'fleetHistoryAdd', 5, addLua)
    this.#record = script(client, 'fleetHistoryRecord', 3, recordLua)
    this.#unrecorded = script(client, 'fleetHistoryUnrecorded', 1, unrecordedLua)
  }

  time(): Promise<number> {
    return this.#time(this.#events)
  }

  add({ start, counts, routes, process, back }: HistoryWrite): Promise<number> {
    const backFields = fieldsOf(back)
    return this.#add(
      this.#bucket('step', start),
      this.#bucket('minute', startOf(start, minuteMs)),
      this.#bucket('routes', startOf(start, routesMs)),
      this.#gone,
      this.#events,
      process,
      backFields.length,
      counts.size,
      ...backFields,
      ...[...counts].flat(),
      ...Array.from(routes, ([name, each]) => [name, packed(each)]).flat(),
    )
  }

  async record(event: NewEvent, { process = '', limit = '' }: RecordOptions = {}): Promise<boolean> {
    const keys = [this.#events, this.#gone, this.#limits]
    return (await this.#record(...keys, process, limit, ...fieldsOf(event))) === 1
  }

  unrecorded(processes: readonly string[]): Promise<string[]> {
    return this.#unrecorded(this.#gone, ...processes)
  }

  async counts(kind: 'step' | 'minute', starts: readonly number[]): Promise<(Counts | undefined)[]> {
    return (await this.#read(kind, starts)).map((fields) => {
      const counts: Counts = new Map()
      for (const [name, count] of Object.entries(fields)) addCount(counts, name, Number(count))
      return counts.size > 0 ? counts : undefined
    })
  }

  async routes(starts: readonly number[]): Promise<(ReadonlyMap<string, Counts> | undefined)[]> {
    return (await this.#read('routes', starts)).map((fields) => {
      const routes = Object.entries(fields).slice(0, maxRoutes + 1)
      return routes.length > 0 ? new Map(routes.map(([name, text]) => [name, unpacked(text)])) : undefined
    })
  }

  async events({ before, after, limit }: EventQuery): Promise<StoredEvent[]> {
    let [from, to] = [after === undefined ? '-' : `(${after}`, before === undefined ? '+' : `(${before}`]
    const events: StoredEvent[] = []
    for (;;) {
      const page = await own(
        after === undefined
          ? this.#client.xrevrange(this.#events, to, from, 'COUNT', limit)
          : this.#client.xrange(this.#events, from, to, 'COUNT', limit),
        [],
      )
      for (const [id, fields] of page) {
        const event = eventOf(id, fields)
        if (event) events.push(event)
      }
      const last = page.at(-1)?.[0]
      // Another application may have filled a page with entries that are no events.
      if (last === undefined || page.length < limit || events.length >= limit) break
      if (after === undefined) to = `(${last}`
      else from = `(${last}`
    }
    const found = events.slice(0, limit)
    return after === undefined ? found : found.reverse()
  }

  async #read(kind: BucketKind, starts: readonly number[]): Promise<Record<string, string>[]> {
    const found: Record<string, string>[] = []
    for (let i = 0; i < starts.length; i += atOnce) {
      const keys = starts.slice(i, i + atOnce).map((start) => this.#bucket(kind, start))
      found.push(...(await Promise.all(keys.map((key) => own(this.#client.hgetall(key), {})))))
    }
    return found
  }

  #bucket(kind: BucketKind, start: number): string {
    return this.#key(`history-${kind}-${start / 1_000}`, 'all')
  }
}

/** The reply of a command, or `none` if the key has a value of another type, which another application wrote. */
const own = <T>(command: Promise<T>, none: T): Promise<T> =>
  guarded(
    command.catch((error: Error) => {
      if (error.message.startsWith('WRONGTYPE')) return none
      throw error
    }),
  )

const clockLua = `
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)`

/** `own(key, type)` deletes a value of another type, which another application wrote. */
const typeLua = `
  local function own(key, kind)
    local found = redis.call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
  end`

const eventLua = `${typeLua}
  local function record(stream, from, to)
    local event = {'XADD', stream, 'MAXLEN', '~', ${maxEvents}, '*', unpack(ARGV, from, to)}
    if type(redis.pcall(unpack(event))) ~= 'table' then return end
    -- Another application has added the largest possible id.
    redis.call('DEL', stream)
    redis.call(unpack(event))
  end`

/** ARGV: process, number of fields of the event, number of counts, the event, pairs of counts, pairs of routes. */
const addLua = `${clockLua} ${eventLua}
  local step, minute, routes, gone, events = unpack(KEYS)
  own(step, 'hash')
  own(minute, 'hash')
  own(routes, 'hash')
  own(gone, 'zset')
  own(events, 'stream')
  local function add(key, name, count)
    if type(redis.pcall('HINCRBY', key, name, count)) == 'table' then redis.call('HSET', key, name, count) end
  end
  local first = 4 + tonumber(ARGV[2])
  local last = first + 2 * tonumber(ARGV[3]) - 1
  for i = first, last, 2 do
    add(step, ARGV[i], ARGV[i + 1])
    add(minute, ARGV[i], ARGV[i + 1])
  end
  local instances = tonumber(redis.call('HGET', step, 'n') or 0)
  local most = tonumber(redis.call('HGET', minute, 'i') or 0)
  if not most or not (most >= instances) then redis.call('HSET', minute, 'i', instances) end
  redis.call('PEXPIRE', step, ${keptMs.step})
  redis.call('PEXPIRE', minute, ${keptMs.minute})

  local function read(text, counts, names)
    for name, count in string.gmatch(text, '(%w+):(%d+)') do
      local before = counts[name]
      if not before then names[#names + 1] = name end
      counts[name] = name == 'm' and math.max(before or 0, tonumber(count)) or (before or 0) + tonumber(count)
    end
  end
  for i = last + 1, #ARGV, 2 do
    local name = ARGV[i]
    local stored = redis.call('HGET', routes, name)
    if not stored and redis.call('HLEN', routes) >= ${maxRoutes} then
      name = ''
      stored = redis.call('HGET', routes, name)
    end
    local text = ARGV[i + 1]
    if stored then
      local counts, names = {}, {}
      read(stored, counts, names)
      read(text, counts, names)
      for at, each in ipairs(names) do names[at] = string.format('%s:%.0f', each, counts[each]) end
      text = table.concat(names, ' ')
    end
    redis.call('HSET', routes, name, text)
  end
  if last < #ARGV then redis.call('PEXPIRE', routes, ${keptMs.routes}) end

  if redis.call('ZREM', gone, ARGV[1]) == 1 then record(events, 4, first - 1) end
  return now`

/** ARGV: process or '', limit or '', the event. */
const recordLua = `${clockLua} ${eventLua}
  local events, gone, limits = unpack(KEYS)
  local process, limit = ARGV[1], ARGV[2]
  own(events, 'stream')
  own(gone, 'zset')
  own(limits, 'hash')
  if process ~= '' then
    redis.call('ZREMRANGEBYSCORE', gone, '-inf', now - ${goneMs})
    if redis.call('ZADD', gone, 'NX', now, process) == 0 then return 0 end
    redis.call('ZREMRANGEBYRANK', gone, 0, -${maxGone + 1})
    redis.call('PEXPIRE', gone, ${goneMs})
  end
  if limit ~= '' then
    local count = redis.pcall('HINCRBY', limits, limit, 1)
    if type(count) == 'table' then count = redis.call('DEL', limits) end
    if redis.call('PTTL', limits) < 0 then redis.call('PEXPIRE', limits, ${limitMs}) end
    if count > ${maxLimited} then return 0 end
  end
  record(events, 3, #ARGV)
  return 1`

const unrecordedLua = `${typeLua}
  own(KEYS[1], 'zset')
  local unrecorded = {}
  for _, process in ipairs(ARGV) do
    if not redis.call('ZSCORE', KEYS[1], process) then unrecorded[#unrecorded + 1] = process end
  end
  return unrecorded`
