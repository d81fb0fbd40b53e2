import type { Revocation } from './revocations.ts'

/** How long what a session hands out lives, in seconds. */
export interface Lifetimes {
  readonly access: number
  readonly refresh: number
}

/** What became of a refresh token that was presented. */
export type Rotation =
  | { readonly outcome: 'rotated'; readonly issuedAt: number; readonly generation: number }
  /** `until` when that was because of a reuse, which may not have been recorded yet. */
  | { readonly outcome: 'ended'; readonly until?: number }
  /** It had been used before: its session is ended. */
  | { readonly outcome: 'reused'; readonly until: number }

/**
 * The sessions of a fleet: which refresh token is the next of each, and since when a subject may have any. Times are
 * Unix seconds by the clock of the store, so that instances with different clocks agree on what came first.
 */
export interface TokenStore {
  readonly kind: 'memory' | 'redis'
  /** Starts a session at generation 0. @returns when its first tokens are issued: always later than the last cut-off */
  open(subject: string, session: string, life: Lifetimes): Promise<number>
  /** In one step: a token of the present generation gives the next one; any other one ends the session. */
  rotate(subject: string, session: string, generation: number, life: Lifetimes): Promise<Rotation>
  /** Ends a session. @returns when its last access token ends; `undefined`, with nothing written, for an unknown session */
  end(subject: string, session: string): Promise<number | undefined>
  /** Ends all sessions. @returns the cut-off: whatever was issued in this second and before */
  endAll(subject: string): Promise<number>
  /** Tells every instance, and every one to come. */
  record(revocation: Revocation): Promise<void>
}

interface Session {
  generation: number
  accessEnds: number
  ends: number
}

/** Generation of a session that has ended: it is kept while its access tokens live, as in Redis. */
const ended = -1
function end(session: Session): void {
  session.generation = ended
  session.ends = session.accessEnds
}

const sweepEveryMs = 60_000

/** For one process. */
export class MemoryStore implements TokenStore {
  readonly kind = 'memory'
  readonly #sessions = new Map<string, Map<string, Session>>()
  /** Marked once tokens were issued after it in its own second: see the store in Redis. */
  readonly #cutoffs = new Map<string, { readonly at: number; isUsed: boolean }>()
  #sweepAt = Date.now() + sweepEveryMs

  async open(subject: string, session: string, life: Lifetimes): Promise<number> {
    this.#sweep()
    const at = this.#issueAt(subject)
    const sessions = this.#sessions.get(subject) ?? new Map<string, Session>()
    this.#sessions.set(subject, sessions)
    sessions.set(session, {
      generation: 0,
      accessEnds: at + life.access,
      ends: at + Math.max(life.access, life.refresh),
    })
    return at
  }

  async rotate(subject: string, session: string, generation: number, life: Lifetimes): Promise<Rotation> {
    const sessions = this.#sessions.get(subject)
    const found = sessions?.get(session)
    if (!found || found.ends <= seconds()) return { outcome: 'ended' }
    if (found.generation === ended) return { outcome: 'ended', until: found.accessEnds }
    if (found.generation !== generation) {
      end(found)
      return { outcome: 'reused', until: found.accessEnds }
    }
    const at = this.#issueAt(subject)
    found.generation++
    found.accessEnds = Math.max(found.accessEnds, at + life.access)
    found.ends = at + Math.max(life.access, life.refresh)
    return { outcome: 'rotated', issuedAt: at, generation: found.generation }
  }

  async end(subject: string, session: string): Promise<number | undefined> {
    const found = this.#sessions.get(subject)?.get(session)
    if (found) end(found)
    return found?.accessEnds
  }

  async endAll(subject: string): Promise<number> {
    this.#sweep()
    const before = this.#cutoffs.get(subject)
    const isUnused = before !== undefined && !before.isUsed && before.at >= seconds()
    const cutoff = isUnused ? before.at : Math.max(seconds(), (before?.at ?? 0) + 1)
    this.#cutoffs.set(subject, { at: cutoff, isUsed: false })
    this.#sessions.delete(subject)
    return cutoff
  }

  async record(): Promise<void> {}

  #issueAt(subject: string): number {
    const cutoff = this.#cutoffs.get(subject)
    if (cutoff && cutoff.at >= seconds()) cutoff.isUsed = true
    return Math.max(seconds(), (cutoff?.at ?? 0) + 1)
  }

  #sweep(): void {
    if (Date.now() < this.#sweepAt) return
    this.#sweepAt = Date.now() + sweepEveryMs
    const now = seconds()
    for (const [subject, { at }] of this.#cutoffs) if (at < now) this.#cutoffs.delete(subject)
    for (const [subject, sessions] of this.#sessions) {
      for (const [id, { ends }] of sessions) if (ends <= now) sessions.delete(id)
      if (sessions.size === 0) this.#sessions.delete(subject)
    }
  }
}

const seconds = (): number => Math.floor(Date.now() / 1000)
