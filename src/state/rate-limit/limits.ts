import { createHash } from 'node:crypto'
import { type RedisClient, script } from '../redis/index.ts'

/** Where one client stands in one limit. */
export interface Standing {
  /** Requests in the window, this one included; `max + 1` when it was refused. */
  readonly count: number
  /** Until the oldest of them leave the window, ms; a client that was refused may come again then. */
  readonly resetMs: number
}

/**
 * Counts requests in a sliding window that is cut into ten slices (Figma, "An alternative approach to rate limiting",
 * 2017). The slice that the window's edge cuts through counts in full: in no window of this length, wherever it begins,
 * are there ever more than `max`, at the price that a place comes free up to a tenth of the window late. Refused
 * requests are not counted, so that a client that keeps knocking gets its share.
 */
export interface Limits {
  /** @param counts whether this is a request, or only a look */
  take(key: string, windowMs: number, max: number, counts: boolean): Standing | Promise<Standing>
}

const slices = 10

/** Most clients that one process counts; beyond it those that came least recently are forgotten. */
const maxClients = 100_000

/** What one client did: a ring of the slices that the window can touch. */
class Window {
  readonly #counts = new Uint32Array(slices + 1)
  #current = 0

  take(now: number, windowMs: number, max: number, counts: boolean): Standing {
    const width = Math.ceil(windowMs / slices)
    this.#advance(Math.floor(now / width))
    let sum = 0
    let oldest = this.#current
    for (let slice = this.#current; slice >= this.#current - slices; slice--) {
      const count = this.#at(slice)
      if (count > 0) oldest = slice
      sum += count
    }
    const admitted = sum < max
    if (counts && admitted) this.#counts[place(this.#current)] = this.#at(this.#current) + 1
    if (counts) sum = admitted ? sum + 1 : max + 1
    return { count: sum, resetMs: (oldest + slices + 1) * width - now }
  }

  #at(slice: number): number {
    return this.#counts[place(slice)] as number
  }

  /** Empties the slices that have left the window. */
  #advance(current: number): void {
    if (current - this.#current > slices) this.#counts.fill(0)
    else for (let slice = this.#current + 1; slice <= current; slice++) this.#counts[place(slice)] = 0
    this.#current = Math.max(this.#current, current)
  }
}

/** Near the epoch, where the clocks of tests begin, the window reaches back to slices with negative numbers. */
const place = (slice: number): number => ((slice % (slices + 1)) + slices + 1) % (slices + 1)

/**
 * The time of day, except that it never goes back: when the clock is put back, time goes on from where it was. Nobody
 * gets in earlier by that, and nobody is locked out until the clock is where it was before.
 */
class Clock {
  #ahead = 0
  #last = Number.NEGATIVE_INFINITY

  now(): number {
    const now = Date.now()
    if (now + this.#ahead < this.#last) this.#ahead = this.#last - now
    this.#last = now + this.#ahead
    return this.#last
  }
}

/** Keys may be made of what clients send; a long one is kept as its hash. */
const bounded = (key: string): string =>
  key.length <= 200 ? key : createHash('sha256').update(key).digest('base64url')

/** The counts of this process. */
export class MemoryLimits implements Limits {
  #recent = new Map<string, Window>()
  #before = new Map<string, Window>()
  readonly #clock = new Clock()

  get size(): number {
    return this.#recent.size + this.#before.size
  }

  take(key: string, windowMs: number, max: number, counts: boolean): Standing {
    return this.#window(`${windowMs} ${bounded(key)}`).take(this.#clock.now(), windowMs, max, counts)
  }

  /** Two generations: what is not asked for while half of `maxClients` others are is gone, without a list in order. */
  #window(key: string): Window {
    const recent = this.#recent.get(key)
    if (recent) return recent
    if (this.#recent.size >= maxClients / 2) {
      this.#before = this.#recent
      this.#recent = new Map()
    }
    const window = this.#before.get(key) ?? new Window()
    this.#before.delete(key)
    this.#recent.set(key, window)
    return window
  }
}

/** The counts of the fleet, by the clock of Redis. */
export class RedisLimits implements Limits {
  readonly #key: (kind: string, id: string) => string
  readonly #take: (...args: (string | number)[]) => Promise<[count: number, resetMs: number]>

  constructor(client: RedisClient, key: (kind: string, id: string) => string) {
    this.#key = key
    this.#take = script(client, 'fleetLimitTake', 1, take)
  }

  async take(key: string, windowMs: number, max: number, counts: boolean): Promise<Standing> {
    const id = `${windowMs} ${bounded(key)}`
    const [count, resetMs] = await this.#take(this.#key('limit', id), windowMs, max, counts ? 1 : 0, slices)
    return { count, resetMs }
  }
}

/** A hash of counts by slice; it is gone when all of them have left the window. */
const take = `
  local window, max, counts, slices = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local width = math.ceil(window / slices)
  local current = math.floor(now / width)
  local sum, oldest = 0, current
  local stored = redis.pcall('HGETALL', KEYS[1])
  if stored.err then
    -- Somebody else put another type there.
    redis.call('DEL', KEYS[1])
    stored = {}
  end
  for i = 1, #stored, 2 do
    local slice, count = tonumber(stored[i]), tonumber(stored[i + 1])
    -- Nobody counts that far ahead, and nothing but numbers.
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
