import type { FastifyInstance } from 'fastify'
import { type RedisClient, script, textLua } from '../redis/index.ts'

/** Either the lock, or how long its present holder can have it without renewing, in ms. */
export type Attempt = { readonly token: number } | { readonly heldForMs: number }

/** Who holds which lock, and until when. */
export interface LockStore {
  /**
   * Takes a lock that nobody holds. Its fencing token is greater than any before it: whatever the lock protects can
   * refuse a writer whose token is smaller than one it has seen (Kleppmann, "How to do distributed locking", 2016).
   */
  acquire(name: string, owner: string, ttlMs: number): Promise<Attempt>
  /** @returns whether the lock is still the owner's */
  renew(name: string, owner: string, ttlMs: number): Promise<boolean>
  /** @returns whether it was still the owner's */
  release(name: string, owner: string): Promise<boolean>
}

/** For one process. */
export class MemoryLocks implements LockStore {
  readonly #held = new Map<string, { owner: string; until: number }>()
  #token = 0

  async acquire(name: string, owner: string, ttlMs: number): Promise<Attempt> {
    const now = performance.now()
    const held = this.#held.get(name)
    if (held && held.until > now) return { heldForMs: held.until - now }
    this.#held.set(name, { owner, until: now + ttlMs })
    this.#token = Math.max(this.#token + 1, Date.now() * 1000)
    return { token: this.#token }
  }

  async renew(name: string, owner: string, ttlMs: number): Promise<boolean> {
    const held = this.#held.get(name)
    if (held?.owner !== owner || held.until <= performance.now()) return false
    held.until = performance.now() + ttlMs
    return true
  }

  async release(name: string, owner: string): Promise<boolean> {
    const held = this.#held.get(name)
    if (held?.owner !== owner) return false
    this.#held.delete(name)
    return held.until > performance.now()
  }
}

/** A lock is a key with its owner as the value, which Redis itself removes when it is not renewed. */
export class RedisLocks implements LockStore {
  readonly #key: FastifyInstance['redisKey']
  readonly #acquire: (...args: (string | number)[]) => Promise<[string, number]>
  readonly #renew: (...args: (string | number)[]) => Promise<number>
  readonly #release: (...args: (string | number)[]) => Promise<number>

  constructor(client: RedisClient, key: FastifyInstance['redisKey']) {
    this.#key = key
    this.#acquire = script(client, 'fleetLockAcquire', 2, acquireLua)
    this.#renew = script(client, 'fleetLockRenew', 1, renewLua)
    this.#release = script(client, 'fleetLockRelease', 1, releaseLua)
  }

  async acquire(name: string, owner: string, ttlMs: number): Promise<Attempt> {
    const id = encodeURIComponent(name) // A brace would end the hash tag too early.
    const [token, heldForMs] = await this.#acquire(this.#key('lock', id), this.#key('lock-token', id), owner, ttlMs)
    return token === '' ? { heldForMs } : { token: Number(token) }
  }

  async renew(name: string, owner: string, ttlMs: number): Promise<boolean> {
    return (await this.#renew(this.#key('lock', encodeURIComponent(name)), owner, ttlMs)) === 1
  }

  async release(name: string, owner: string): Promise<boolean> {
    return (await this.#release(this.#key('lock', encodeURIComponent(name)), owner)) === 1
  }
}

/** The longest time to live of a lock, ms. */
const longestMs = 3_600_000

// Tokens are microseconds of Redis's clock, made to rise: so they rise though Redis should lose its data, and the key that
// guards against a clock that is set back is kept for a while only: a lock's name may come from a client.
//
// Every lock ends within an hour, and no token is a day ahead of the clock: anything else did not come from the fleet.
const acquireLua = `${textLua}
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 and left <= ${longestMs} then return {'', left} end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local last = tonumber(text(KEYS[2]) or '0')
  if not last or not (last < now + 86400000000) then last = 0 end
  local token = string.format('%.0f', math.max(now, last + 1))
  redis.call('SET', KEYS[2], token, 'EX', 7200)
  return {token, 0}`

const renewLua = `${textLua}
  if text(KEYS[1]) ~= ARGV[1] then return 0 end
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])`

const releaseLua = `${textLua}
  if text(KEYS[1]) ~= ARGV[1] then return 0 end
  return redis.call('DEL', KEYS[1])`
