import type { TokenClaims } from './claims.ts'

/** Revokes tokens that are otherwise valid. */
export interface Revocation {
  readonly kind: 'token' | 'session' | 'subject'
  /** A `jti`, a `sid` or a `sub`. */
  readonly id: string
  /** For a subject: tokens issued in this second (Unix time) or earlier are revoked. */
  readonly cutoff: number
  /** Unix time in seconds by which all revoked tokens have expired. */
  readonly until: number
}

/** A page of the log that the instances of a fleet share. */
export interface RevocationPage {
  /** Where the next page starts. */
  readonly cursor: string
  readonly revocations: readonly Revocation[]
  readonly more: boolean
}

const sweepEveryMs = 60_000

/** The revocations that are still in force, in memory. */
export class Revocations {
  /** Increases with each change. A token that was checked at this version need not be checked again. */
  version = 0
  /** Until when the revocations of the fleet are known, in ms since 1970; `Infinity` for a single process. */
  knownUntil: number = Number.POSITIVE_INFINITY
  readonly #ids = new Map<string, number>()
  readonly #cutoffs = new Map<string, { cutoff: number; until: number }>()
  #sweepAt = 0

  get size(): number {
    return this.#ids.size + this.#cutoffs.size
  }

  add({ kind, id, cutoff, until }: Revocation): void {
    this.version++
    if (kind === 'subject') {
      const before = this.#cutoffs.get(id)
      this.#cutoffs.set(id, {
        cutoff: Math.max(cutoff, before?.cutoff ?? 0),
        until: Math.max(until, before?.until ?? 0),
      })
    } else {
      const key = `${kind}:${id}`
      this.#ids.set(key, Math.max(until, this.#ids.get(key) ?? 0))
    }
    this.#sweep()
  }

  has({ jti, sid, sub, iat }: TokenClaims): boolean {
    if (this.#ids.size > 0) {
      if (jti !== undefined && this.#ids.has(`token:${jti}`)) return true
      if (sid !== undefined && this.#ids.has(`session:${sid}`)) return true
    }
    const subject = this.#cutoffs.get(sub)
    return subject !== undefined && iat <= subject.cutoff
  }

  #sweep(): void {
    const now = Date.now()
    if (now < this.#sweepAt) return
    this.#sweepAt = now + sweepEveryMs
    for (const [id, until] of this.#ids) if (until * 1000 < now) this.#ids.delete(id)
    for (const [id, { until }] of this.#cutoffs) if (until * 1000 < now) this.#cutoffs.delete(id)
  }
}

/** Interval of reads. A revocation whose announcement was lost is found by the next one, in less than a second. */
const readEveryMs = 400
/** How long the result of a read is valid. */
const maxAgeMs = 1000

/** Keeps {@link Revocations} up to date: reads the log at an interval, and at once when another instance announces a change. */
export class RevocationFeed {
  readonly #since: (cursor: string) => Promise<RevocationPage>
  readonly #revocations: Revocations
  readonly #timer: NodeJS.Timeout
  #cursor = '0'
  #restarts = 0
  #running: Promise<void> | undefined
  #again = false

  /** @param since reads a page of the log */
  constructor(since: (cursor: string) => Promise<RevocationPage>, revocations: Revocations) {
    this.#since = since
    this.#revocations = revocations
    this.#timer = setInterval(() => this.sync().catch(() => {}), readEveryMs).unref()
  }

  /** Reads new entries now. A read in progress may have missed them, so it is followed by another one. */
  pull(): void {
    this.#again = this.#running !== undefined
    this.sync().catch(() => {})
  }

  /** Reads the whole log again, because after a failover the log of the new primary may differ. */
  restart(): void {
    this.#cursor = '0'
    this.#restarts++
    this.pull()
  }

  /** @throws FLEET_ERR_STATE_UNAVAILABLE */
  sync(): Promise<void> {
    this.#running ??= this.#read().finally(() => {
      this.#running = undefined
      if (this.#again) this.pull()
    })
    return this.#running
  }

  close(): void {
    clearInterval(this.#timer)
  }

  async #read(): Promise<void> {
    this.#again = false
    for (;;) {
      const startedAt = Date.now()
      const restarts = this.#restarts
      const { cursor, revocations, more } = await this.#since(this.#cursor)
      for (const revocation of revocations) this.#revocations.add(revocation)
      // The page may be of the former primary.
      if (this.#restarts !== restarts) continue
      this.#cursor = cursor
      if (more) continue
      this.#revocations.knownUntil = startedAt + maxAgeMs
      return
    }
  }
}
