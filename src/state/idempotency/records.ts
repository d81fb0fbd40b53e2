import { type RedisClient, script, textLua } from '../redis/index.ts'

/** What a request with a key learns: it is the first, or what became of the first. */
export type Claim =
  | { readonly is: 'first' }
  /** @property by the token of the first */
  | { readonly is: 'in flight'; readonly by: string }
  | { readonly is: 'another request' }
  | { readonly is: 'answered'; readonly answer: string }

/** One record per idempotency key. Methods answer within the client's bound, or throw FLEET_ERR_STATE_UNAVAILABLE. */
export interface Records {
  /**
   * Takes the key, unless it is taken.
   *
   * @param print what the request asks for: the same key with another print is another request
   * @param token of the one who asks; only it can renew, keep or release
   * @param lockMs when others may take the key, should the taker be dead by then
   */
  claim(key: string, print: string, token: string, lockMs: number): Promise<Claim>
  renew(key: string, print: string, token: string, lockMs: number): Promise<void>
  /** Keeps the answer for those who repeat the request. @returns false when the key was lost meanwhile */
  keep(key: string, print: string, token: string, answer: string, ttlMs: number): Promise<boolean>
  /** Gives the key free: the request may be tried again. */
  release(key: string, print: string, token: string): Promise<void>
}

interface Kept {
  readonly print: string
  /** `undefined` once answered. */
  readonly token?: string
  readonly answer?: string
  readonly expiresAt: number
}

export interface MemoryBounds {
  readonly maxRecords: number
  readonly maxBytes: number
}

/** The records of this process: the oldest go first, when they expire or when there are too many. */
export class MemoryRecords implements Records {
  readonly #bounds: MemoryBounds
  readonly #records = new Map<string, Kept>()
  #bytes = 0

  constructor(bounds: MemoryBounds = { maxRecords: 50_000, maxBytes: 64 * 1024 * 1024 }) {
    this.#bounds = bounds
  }

  get size(): number {
    return this.#records.size
  }

  async claim(key: string, print: string, token: string, lockMs: number): Promise<Claim> {
    const known = this.#get(key)
    if (!known) {
      this.#set(key, { print, token, expiresAt: performance.now() + lockMs })
      return { is: 'first' }
    }
    if (known.print !== print) return { is: 'another request' }
    return known.token !== undefined
      ? { is: 'in flight', by: known.token }
      : { is: 'answered', answer: known.answer ?? '' }
  }

  async renew(key: string, print: string, token: string, lockMs: number): Promise<void> {
    if (this.#holds(key, print, token)) this.#set(key, { print, token, expiresAt: performance.now() + lockMs })
  }

  async keep(key: string, print: string, token: string, answer: string, ttlMs: number): Promise<boolean> {
    const holds = this.#holds(key, print, token)
    if (holds) this.#set(key, { print, answer, expiresAt: performance.now() + ttlMs })
    return holds
  }

  async release(key: string, print: string, token: string): Promise<void> {
    if (this.#holds(key, print, token)) this.#delete(key)
  }

  #holds(key: string, print: string, token: string): boolean {
    const known = this.#get(key)
    return known?.print === print && known.token === token
  }

  #get(key: string): Kept | undefined {
    const known = this.#records.get(key)
    if (known && known.expiresAt <= performance.now()) this.#delete(key)
    else return known
    return undefined
  }

  #set(key: string, record: Kept): void {
    this.#delete(key)
    this.#records.set(key, record)
    this.#bytes += record.answer?.length ?? 0
    const now = performance.now()
    for (const [oldest, { expiresAt }] of this.#records) {
      const full = this.#records.size > this.#bounds.maxRecords || this.#bytes > this.#bounds.maxBytes
      if (expiresAt > now && !full) break
      this.#delete(oldest)
    }
  }

  #delete(key: string): void {
    this.#bytes -= this.#records.get(key)?.answer?.length ?? 0
    this.#records.delete(key)
  }
}

/** The records of the fleet: a string per key, its lock while in flight and its answer after that. */
export class RedisRecords implements Records {
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
    if (known === null) return { is: 'first' }
    const { state, print: first, rest } = parse(known)
    if (first !== print) return { is: 'another request' }
    return state === 'L' ? { is: 'in flight', by: rest } : { is: 'answered', answer: rest }
  }

  async renew(key: string, print: string, token: string, lockMs: number): Promise<void> {
    await this.#run.renew(this.#key(key), locked(print, token), lockMs)
  }

  async keep(key: string, print: string, token: string, answer: string, ttlMs: number): Promise<boolean> {
    const settled = await this.#run.settle(this.#key(key), locked(print, token), `A${print} ${answer}`, ttlMs)
    return settled === 1
  }

  async release(key: string, print: string, token: string): Promise<void> {
    await this.#run.settle(this.#key(key), locked(print, token), '', 0)
  }
}

/** `L` and the print with the holder's token, or `A` and the print with the answer. */
const locked = (print: string, token: string): string => `L${print} ${token}`

function parse(record: string): { state: string; print: string; rest: string } {
  const space = record.indexOf(' ')
  return { state: record.charAt(0), print: record.slice(1, space), rest: record.slice(space + 1) }
}

const scripts = {
  claim: `${textLua}
    local known = text(KEYS[1])
    -- What never ends, or has no print, is no record.
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
