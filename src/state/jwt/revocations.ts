import type { TokenClaims } from './claims.ts'

/** One reason to refuse tokens that are good otherwise. */
export interface Revocation {
  readonly kind: 'token' | 'session' | 'subject'
  /** A `jti`, a `sid` or a `sub`. */
  readonly id: string
  /** For a subject: its tokens issued in this second (Unix time) and before are refused. */
  readonly cutoff: number
  /** Unix time in seconds: no token that this concerns lives longer. */
  readonly until: number
}

const sweepEveryMs = 60_000

/** What this instance knows of revocations: all that still matter, in memory. */
export class Revocations {
  /** Grows with each change, so that a token that was looked up at this version need not be looked up again. */
  version = 0
  /** Unix time in ms up to which the fleet's revocations are known here: `Infinity` where nobody else makes any. */
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
