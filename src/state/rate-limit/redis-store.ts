import { type RedisClient, script } from '../redis/index.ts'
import { boundedKey, type LimitState, type LimitStore, slices } from './store.ts'

/** Counts of the fleet, by the clock of Redis. */
export class RedisLimitStore implements LimitStore {
  readonly #key: (kind: string, id: string) => string
  readonly #take: (...args: (string | number)[]) => Promise<[count: number, resetMs: number]>

  constructor(client: RedisClient, key: (kind: string, id: string) => string) {
    this.#key = key
    this.#take = script(client, 'fleetLimitTake', 1, take)
  }

  async take(key: string, windowMs: number, max: number, counts: boolean): Promise<LimitState> {
    const id = `${windowMs} ${boundedKey(key)}`
    const [count, resetMs] = await this.#take(this.#key('limit', id), windowMs, max, counts ? 1 : 0, slices)
    return { count, resetMs }
  }
}

/** A hash of counts by slice. It expires when all slices have left the window. */
const take = `
  local window, max, counts, slices = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local width = math.ceil(window / slices)
  local current = math.floor(now / width)
  local sum, oldest = 0, current
  local stored = redis.pcall('HGETALL', KEYS[1])
  if stored.err then
    -- Another application wrote another type.
    redis.call('DEL', KEYS[1])
    stored = {}
  end
  for i = 1, #stored, 2 do
    local slice, count = tonumber(stored[i]), tonumber(stored[i + 1])
    -- Ignore fields in another format, or too far ahead.
    local isOurs = slice and count and count >= 0 and slice <= current + slices
    if not isOurs or slice < current - slices then
      redis.call('HDEL', KEYS[1], stored[i])
    else
      sum = sum + count
      if slice < oldest then oldest = slice end
    end
  end
  local admitted = sum < max
  if admitted and counts then
    redis.call('HINCRBY', KEYS[1], string.format('%d', current), 1)
    redis.call('PEXPIRE', KEYS[1], width * (slices + 1))
    sum = sum + 1
  end
  if counts and not admitted then sum = max + 1 end
  return {sum, (oldest + slices + 1) * width - now}`
