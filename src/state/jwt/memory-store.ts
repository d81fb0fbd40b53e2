import type { Presenter, RotationResult, TokenLifetimes, TokenStore } from './store.ts'

interface Session {
  generation: number
  accessEnds: number
  ends: number
  /** The last rotation, for repetitions. `until`: Unix time in ms. */
  rotation?: { readonly issuedAt: number; readonly client: string; readonly until: number }
}

/** Generation of a session that has ended. It is kept until its access tokens expire, as in Redis. */
const ended = -1
function end(session: Session): void {
  session.generation = ended
  session.ends = session.accessEnds
}

const sweepEveryMs = 60_000

/** Keeps token sessions in the memory of one process. */
export class MemoryTokenStore implements TokenStore {
  readonly #sessions = new Map<string, Map<string, Session>>()
  /** `isUsed`: whether tokens were issued after the cut-off in its own second; see the script in `redis-store.ts`. */
  readonly #cutoffs = new Map<string, { readonly at: number; isUsed: boolean }>()
  #sweepAt = Date.now() + sweepEveryMs

  async open(subject: string, session: string, lifetimes: TokenLifetimes): Promise<number> {
    this.#sweep()
    const at = this.#issueAt(subject)
    const sessions = this.#sessions.get(subject) ?? new Map<string, Session>()
    this.#sessions.set(subject, sessions)
    sessions.set(session, {
      generation: 0,
      accessEnds: at + lifetimes.accessSeconds,
      ends: at + Math.max(lifetimes.accessSeconds, lifetimes.refreshSeconds),
    })
    return at
  }

  async rotate(
    subject: string,
    session: string,
    generation: number,
    lifetimes: TokenLifetimes,
    { client, leewayMs }: Presenter,
  ): Promise<RotationResult> {
    const sessions = this.#sessions.get(subject)
    const found = sessions?.get(session)
    if (!found || found.ends <= seconds()) return { outcome: 'ended' }
    if (found.generation === ended) return { outcome: 'ended', until: found.accessEnds }
    if (found.generation !== generation) {
      const { rotation } = found
      const isPrevious = generation >= 0 && found.generation === generation + 1
      if (isPrevious && rotation && rotation.client === client && Date.now() < rotation.until)
        return { outcome: 'rotated', issuedAt: rotation.issuedAt, generation: found.generation }
      end(found)
      return { outcome: 'reused', until: found.accessEnds }
    }
    const at = this.#issueAt(subject)
    found.generation++
    found.rotation = { issuedAt: at, client, until: Date.now() + leewayMs }
    found.accessEnds = Math.max(found.accessEnds, at + lifetimes.accessSeconds)
    found.ends = at + Math.max(lifetimes.accessSeconds, lifetimes.refreshSeconds)
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
