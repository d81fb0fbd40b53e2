import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import { Lease, settles } from './lease.ts'
import type { LockStore } from './store.ts'

/** A job of which one instance at a time is in charge. */
export interface Leadership {
  /** Whether this instance is. */
  readonly leading: boolean
  /** Hands over for good, and resolves when `fn` has ended here. */
  stop(): Promise<void>
}

export interface CandidateParts {
  readonly store: LockStore
  readonly name: string
  readonly fn: (signal: AbortSignal) => unknown
  readonly ttlMs: number
  readonly log: FastifyBaseLogger
  /** Whether this instance may be in charge now. */
  readonly eligible: () => boolean
  /** Tells the other candidates that the place is free. */
  readonly announce: () => Promise<void>
}

/** After a failure of the job or of Redis: long enough for another instance to take over, ms. */
const retryMs = 500

/** Campaigns for a lease, leads while it holds it, and campaigns again. */
export class Candidate implements Leadership {
  readonly #parts: CandidateParts
  #lease: Lease | undefined
  #stopped = false
  #stirred = false
  #wake: () => void = () => {}
  /** Resolves once this instance is out of the race for good. */
  readonly ended: Promise<void>

  constructor(parts: CandidateParts) {
    this.#parts = parts
    this.ended = this.#campaign()
  }

  get leading(): boolean {
    return this.#lease !== undefined && !this.#lease.signal.aborted
  }

  stop(): Promise<void> {
    this.#stopped = true
    this.reconsider()
    return this.ended
  }

  /** Something has changed: the place may be free, or this instance may no longer take it. */
  reconsider(): void {
    this.#stirred = true
    this.#wake()
    this.#resignUnlessEligible()
  }

  async #campaign(): Promise<void> {
    const { store, name, ttlMs, eligible } = this.#parts
    while (!this.#stopped) {
      let wait = ttlMs
      this.#stirred = false
      if (eligible()) {
        const got = await Lease.acquire(store, name, ttlMs).catch(() => retryMs)
        if (got instanceof Lease) wait = (await this.#lead(got)) ? 0 : retryMs
        else wait = got + 1
      }
      if (!this.#stopped && !this.#stirred && wait > 0) await this.#pause(wait)
    }
  }

  /** @returns whether the job did not fail */
  async #lead(lease: Lease): Promise<boolean> {
    const { name, fn, log, ttlMs } = this.#parts
    this.#lease = lease
    log.info({ name, token: lease.token }, 'leader: this instance is in charge')
    let failed = false
    const job = (async () => fn(lease.signal))().catch((err: unknown) => {
      failed = !lease.signal.aborted
      if (failed) log.error({ err, name }, 'leader: the job failed; another instance may try')
      lease.resign(err)
    })
    this.#resignUnlessEligible()
    await aborted(lease.signal)

    // Nobody takes over while the job still runs here, unless it does not heed its signal.
    if (!(await settles(job, ttlMs))) {
      log.warn({ name }, 'leader: the job goes on though its signal was aborted; its lease ends')
      await lease.release(false)
      await job
    }
    await lease.release()
    this.#lease = undefined
    log.info({ name, lost: lease.lost }, 'leader: this instance is no longer in charge')
    await this.#parts.announce()
    return !failed
  }

  #resignUnlessEligible(): void {
    if (this.#stopped || !this.#parts.eligible()) this.#lease?.resign()
  }

  #pause(ms: number): Promise<unknown> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    return Promise.race([promise, sleep(ms, undefined, { ref: false })])
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
