import { type RedisClient, script, textLua } from '../redis/index.ts'
import type { Claim, IdempotencyStore } from './store.ts'

/** Records of the fleet: one string per key, a lock while the request is in flight and its response afterwards. */
export class RedisIdempotencyStore implements IdempotencyStore {
  readonly #key: (key: string) => string
  readonly #run: Record<keyof typeof scripts, (...args: (string | number)[]) => Promise<unknown>>

  constructor(client: RedisClient, key: (kind: string, id: string) => string) {
    this.#key = (id) => key('idempotency', id)
    this.#run = {
      claim: script(client, 'fleetIdempotencyClaim', 1, scripts.claim),
      settle: script(client, 'fleetIdempotencySettle', 1, scripts.settle),
      renew: script(client, 'fleetIdempotencyRenew', 1, scripts.renew),
    }
  }

  async claim(key: string, print: string, token: string, lockMs: number): Promise<Claim> {
    const known = (await this.#run.claim(this.#key(key), locked(print, token), lockMs)) as string | null
    if (known === null) return { status: 'first' }
    const { state, print: first, rest } = parse(known)
    if (first !== print) return { status: 'other_request' }
    return state === 'L' ? { status: 'in_flight', token: rest } : { status: 'completed', response: rest }
  }

  async renew(key: string, print: string, token: string, lockMs: number): Promise<void> {
    await this.#run.renew(this.#key(key), locked(print, token), lockMs)
  }

  async complete(key: string, print: string, token: string, response: string, ttlMs: number): Promise<boolean> {
    const settled = await this.#run.settle(this.#key(key), locked(print, token), `A${print} ${response}`, ttlMs)
    return settled === 1
  }

  async release(key: string, print: string, token: string): Promise<void> {
    await this.#run.settle(this.#key(key), locked(print, token), '', 0)
  }
}

/** In flight: `L`, fingerprint, space, owner's token. Completed: `A`, fingerprint, space, response. */
const locked = (print: string, token: string): string => `L${print} ${token}`

function parse(record: string): { state: string; print: string; rest: string } {
  const space = record.indexOf(' ')
  return { state: record.charAt(0), print: record.slice(1, space), rest: record.slice(space + 1) }
}

const scripts = {
  claim: `${textLua}
    local known = text(KEYS[1])
    -- Without expiry or fingerprint it is not ours.
    if known and (redis.call('PTTL', KEYS[1]) < 0 or not string.match(known, '^[LA]%S+ ')) then known = false end
    if not known then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
    return known`,
  settle: `${textLua}
    if text(KEYS[1]) ~= ARGV[1] then return 0 end
    if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return 1`,
  renew: `${textLua}
    if text(KEYS[1]) ~= ARGV[1] then return 0 end
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])`,
} as const
