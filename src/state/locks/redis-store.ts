import type { FastifyInstance } from 'fastify'
import { type RedisClient, script, textLua } from '../redis/index.ts'
import type { LockAttempt, LockStore } from './store.ts'

/** A lock is a key with its owner as the value. It expires unless it is renewed. */
export class RedisLockStore implements LockStore {
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

  async acquire(name: string, owner: string, ttlMs: number): Promise<LockAttempt> {
    const id = encodeURIComponent(name) // A brace would end the hash tag early.
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

/** Maximum time to live of a lock, ms. */
const maxTtlMs = 3_600_000

// A token is the time of Redis's clock in microseconds, or the last token plus one. So tokens rise even if Redis loses its
// data. The last token guards against a clock that is set back; it expires, because clients may choose lock names.
//
// A lock that expires in more than an hour, and a token more than a day ahead, were not written by the fleet.
const acquireLua = `${textLua}
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 and left <= ${maxTtlMs} then return {'', left} end
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
