import type { FastifyInstance } from 'fastify'
import { guarded, type RedisClient, script, textLua } from '../redis/index.ts'
import type { Revocation, RevocationPage } from './revocations.ts'
import type { Presenter, RotationResult, TokenLifetimes, TokenStore } from './store.ts'

type Call<T> = (...args: (string | number)[]) => Promise<T>

/** A cut-off is kept longer than the longest lifetime of a refresh token (a year), whatever this instance's options are. */
const cutoffKeptSeconds = 400 * 86_400
/** The log is kept longer than the longest lifetime of an access token (30 days). */
const logKeptSeconds = 32 * 86_400
const pageSize = 1000
/** Scores of the log are times. Scores further ahead of the clock than this are ignored, ms. */
const aheadMs = 86_400_000

/**
 * Keeps token sessions in Redis. A session is `generation born accessEnds` under its own key, which expires. It shares its slot
 * with the cut-off of its subject, so that each step is one atomic script, and ending all sessions of a subject is one
 * write. No token is stored.
 *
 * Revocations are a log: a sorted set with strictly increasing scores, the microseconds of Redis' clock. An instance reads new
 * entries as one range after the last score that it has seen.
 */
export class RedisTokenStore implements TokenStore {
  readonly #key: FastifyInstance['redisKey']
  readonly #client: RedisClient
  readonly #open: Call<number>
  readonly #rotate: Call<[status: number, a?: number, b?: number]>
  readonly #end: Call<number>
  readonly #endAll: Call<number>
  readonly #record: Call<number>

  constructor(client: RedisClient, key: FastifyInstance['redisKey']) {
    this.#client = client
    this.#key = key
    this.#open = script(client, 'fleetTokenOpen', 2, openLua)
    this.#rotate = script(client, 'fleetTokenRotate', 3, rotateLua)
    this.#end = script(client, 'fleetTokenEnd', 1, endLua)
    this.#endAll = script(client, 'fleetTokenEndAll', 1, endAllLua)
    this.#record = script(client, 'fleetTokenRecord', 1, recordLua)
  }

  open(subject: string, session: string, lifetimes: TokenLifetimes): Promise<number> {
    return this.#open(...this.#keys(subject, session), lifetimes.accessSeconds, lifetimes.refreshSeconds)
  }

  async rotate(
    subject: string,
    session: string,
    generation: number,
    lifetimes: TokenLifetimes,
    { client, leewayMs }: Presenter,
  ): Promise<RotationResult> {
    const [key, cutoff] = this.#keys(subject, session)
    const rotation = this.#key(`jwt-rotation:${session}`, encodeURIComponent(subject))
    const { accessSeconds, refreshSeconds } = lifetimes
    const [status, a = 0, b = 0] = await this.#rotate(
      ...[key, rotation, cutoff],
      ...[generation, accessSeconds, refreshSeconds, leewayMs, client],
    )
    if (status === 1) return { outcome: 'rotated', issuedAt: a, generation: b }
    return status === -1 ? { outcome: 'reused', until: a } : { outcome: 'ended', until: a || undefined }
  }

  async end(subject: string, session: string): Promise<number | undefined> {
    return (await this.#end(this.#keys(subject, session)[0])) || undefined
  }

  endAll(subject: string): Promise<number> {
    return this.#endAll(this.#keys(subject, '')[1], cutoffKeptSeconds)
  }

  async record(revocation: Revocation): Promise<void> {
    await this.#record(this.#log, encode(revocation), logKeptSeconds)
  }

  /** A page of the revocations recorded after `cursor`. @throws FLEET_ERR_STATE_UNAVAILABLE */
  async since(cursor: string): Promise<RevocationPage> {
    const end = String((Date.now() + aheadMs) * 1000)
    const rows = await guarded(
      this.#client
        .zrangebyscore(this.#log, `(${cursor}`, end, 'WITHSCORES', 'LIMIT', 0, pageSize)
        .catch((error: Error) => {
          // A value of another type is replaced by the next revocation.
          if (error.message.startsWith('WRONGTYPE')) return []
          throw error
        }),
    )
    const members = rows.filter((_, index) => index % 2 === 0)
    const revocations = members.map(decode).filter((one) => one !== undefined)
    return { cursor: rows.at(-1) ?? cursor, revocations, more: members.length === pageSize }
  }

  get #log(): string {
    return this.#key('jwt-revoked', 'log')
  }

  #keys(subject: string, session: string): [session: string, cutoff: string] {
    const id = encodeURIComponent(subject) // A brace would end the hash tag of the key.
    return [this.#key(`jwt-session:${session}`, id), this.#key('jwt-cutoff', id)]
  }
}

// A session is `generation born accessEnds`, a cut-off is a number. Other data was not written by the fleet and counts as
// missing. A cut-off in this second or later gets a fraction (.5) once tokens are issued after it. Without the fraction
// the next endAll() keeps the cut-off, so that repeated calls cause one cut-off and one revocation.
const issueAtLua = `${textLua}
  local now = tonumber(redis.call('TIME')[1])
  local mark = tonumber(text(KEYS[#KEYS]) or '0')
  if not mark or not (mark < now + 86400) then mark = 0 end
  local cutoff = math.floor(mark)
  local at = math.max(now, cutoff + 1)
  local function issued()
    if at > now and mark == cutoff then redis.call('SET', KEYS[#KEYS], cutoff .. '.5', 'KEEPTTL') end
  end`

const openLua = `${issueAtLua}
  issued()
  redis.call('SET', KEYS[1], '0 ' .. at .. ' ' .. (at + ARGV[1]), 'EX', math.max(ARGV[1], ARGV[2]))
  return at`

// An ended session stays marked as such until its access tokens expire. If recording the revocation fails after this step,
// the next attempt to use the session records it. The last rotation has a key of its own, `generation issuedAt client`, which
// expires with the leeway.
const rotateLua = `${issueAtLua}
  local session = text(KEYS[1])
  local generation, born, ends = string.match(session or '', '^(%S+) (%d+) (%d+)$')
  if not born then return {0} end
  if tonumber(born) <= cutoff then
    redis.call('DEL', KEYS[1])
    return {0}
  end
  if generation ~= ARGV[1] then
    local next, issuedAt, client = string.match(text(KEYS[2]) or '', '^(%d+) (%d+) (%S+)$')
    if client == ARGV[5] and next == generation and tonumber(ARGV[1]) == next - 1 then
      return {1, tonumber(issuedAt), tonumber(next)}
    end
    redis.call('SET', KEYS[1], 'ended ' .. born .. ' ' .. ends, 'EX', math.max(1, ends - now))
    return {generation == 'ended' and 0 or -1, tonumber(ends)}
  end
  issued()
  ends = math.max(tonumber(ends), at + ARGV[2])
  redis.call('SET', KEYS[1], (generation + 1) .. ' ' .. born .. ' ' .. ends, 'EX', math.max(ARGV[2], ARGV[3]))
  if tonumber(ARGV[4]) > 0 then
    redis.call('SET', KEYS[2], (generation + 1) .. ' ' .. at .. ' ' .. ARGV[5], 'PX', ARGV[4])
  end
  return {1, at, generation + 1}`

const endLua = `${textLua}
  local session = text(KEYS[1])
  local born, ends = string.match(session or '', '(%d+) (%d+)$')
  if not born then return 0 end
  local life = math.max(1, ends - redis.call('TIME')[1])
  -- Redis above maxmemory rejects the mark. The session ends all the same.
  if redis.pcall('SET', KEYS[1], 'ended ' .. born .. ' ' .. ends, 'EX', life).err then redis.call('DEL', KEYS[1]) end
  return tonumber(ends)`

const endAllLua = `${issueAtLua}
  if at > now and mark == cutoff then at = cutoff end
  redis.call('SET', KEYS[1], at, 'EX', ARGV[1])
  return at`

// Members start with the second in which they end. Each write checks twenty random ones, as Redis itself expires keys, so
// that at most about one in twenty has ended, and no write has many to remove.
const recordLua = `
  local time = redis.call('TIME')
  local at = time[1] * 1000000 + time[2]
  if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
  -- A score far in the future would put all later ones where no instance reads them. This write comes before ZADD, because
  -- Redis above maxmemory lets a script continue that has already written. So a logout works then too.
  redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', at + ${aheadMs * 1000}), '+inf')
  local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
  if last then at = math.max(at, last + 1) end
  for _, member in ipairs(redis.call('ZRANDMEMBER', KEYS[1], 20)) do
    local ends = tonumber(string.match(member, '^%d+') or 0)
    if ends < tonumber(time[1]) then redis.call('ZREM', KEYS[1], member) end
  end
  redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
  return redis.call('EXPIRE', KEYS[1], ARGV[2])`

const encode = ({ until, cutoff, kind, id }: Revocation): string => `${until} ${cutoff} ${kind} ${id}`

/** @returns `undefined` for a member that no instance has recorded, which must not prevent the others from being read */
function decode(member: string): Revocation | undefined {
  const [, until, cutoff, kind, id] = /^(\d{1,15}) (\d{1,15}) (token|session|subject) (.*)$/s.exec(member) ?? []
  if (id === undefined) return undefined
  return { until: Number(until), cutoff: Number(cutoff), kind: kind as Revocation['kind'], id }
}
