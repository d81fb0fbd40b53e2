import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import { within } from '../../base/within.ts'
import { Lease } from './lease.ts'
import type { LockStore } from './store.ts'

/** A job that one instance at a time runs. */
export interface Leadership {
  /** Whether this instance is the leader. */
  readonly leading: boolean
  /** Leaves the election for good. Resolves when `fn` has ended here. */
  stop(): Promise<void>
}

export interface CandidateParts {
  readonly store: LockStore
  readonly name: string
  readonly fn: (signal: AbortSignal) => unknown
  readonly ttlMs: number
  readonly log: FastifyBaseLogger
  /** Whether this instance may lead now. */
  readonly eligible: () => boolean
  /** Notifies the other candidates that there is no leader. */
  readonly announce: () => Promise<void>
  /** Called when this instance becomes the leader, with its fencing token. */
  readonly leads?: (token: number) => void
}

/** Pause after a failure of Redis, ms. */
const retryMs = 500
/** First and longest pause after a failure of the job, ms. */
const [minPauseMs, maxPauseMs] = [1_000, 30_000]

/** Tries to acquire the lease, leads while it has it, and tries again. */
export class Candidate implements Leadership {
  readonly #parts: CandidateParts
  #lease: Lease | undefined
  readonly #stopping = new AbortController()
  /** Pause after the last failure of the job, before jitter, ms. */
  #pauseMs = 0
  #reconsidered = false
  #wake: () => void = () => {}
  /** Resolves once this instance has left the election. */
  readonly ended: Promise<void>

  constructor(parts: CandidateParts) {
    this.#parts = parts
    this.ended = this.#campaign()
  }

  get #stopped(): boolean {
    return this.#stopping.signal.aborted
  }

  get #mayLead(): boolean {
    return !this.#stopped && this.#parts.eligible()
  }

  get leading(): boolean {
    return this.#lease !== undefined && !this.#lease.signal.aborted
  }

  stop(): Promise<void> {
    this.#stopping.abort()
    this.reconsider()
    return this.ended
  }

  /** Call after a change: the leader may be gone, or this instance may not lead any more. */
  reconsider(): void {
    this.#reconsidered = true
    this.#wake()
    this.#resignUnlessEligible()
  }

  async #campaign(): Promise<void> {
    const { store, name, ttlMs, eligible } = this.#parts
    while (!this.#stopped) {
      let waitMs = ttlMs
      this.#reconsidered = false
      if (eligible()) {
        const got = await Lease.acquire(store, name, ttlMs).catch(() => retryMs)
        waitMs = got instanceof Lease ? 0 : got + 1
        if (got instanceof Lease) await this.#backOff(await this.#lead(got))
      }
      if (!this.#stopped && !this.#reconsidered && waitMs > 0) await this.#pause(waitMs)
    }
  }

  /** @returns the pause after a failure of the job, ms; 0 if it did not fail */
  async #lead(lease: Lease): Promise<number> {
    const { name, fn, log, ttlMs, announce } = this.#parts
    if (!this.#mayLead) {
      // The state has changed since the command was sent.
      await lease.release()
      await announce()
      return 0
    }
    this.#lease = lease
    log.info({ name, token: lease.token }, 'leader: this instance leads')
    this.#parts.leads?.(lease.token)
    const since = performance.now()
    let pauseMs = 0
    const job = (async () => fn(lease.signal))().catch((err: unknown) => {
      if (!lease.signal.aborted) {
        pauseMs = this.#nextPauseMs(performance.now() - since)
        log.error({ err, name, pauseMs }, 'leader: the job failed; another instance may take over')
      }
      lease.resign(err)
    })
    this.#resignUnlessEligible()
    await aborted(lease.signal)

    // Keep the lease until the job has ended here, unless the job ignores its signal.
    if ((await within(ttlMs, job)) === 'late') {
      log.warn({ name }, 'leader: the job ignores its aborted signal; its lease expires')
      await lease.release(false)
      await job
    }
    await lease.release()
    this.#lease = undefined
    log.info({ name, lost: lease.lost }, 'leader: this instance no longer leads')
    await announce()
    return pauseMs
  }

  /** Doubles with each failure, unless the job ran for longer than the last pause. */
  #nextPauseMs(ranMs: number): number {
    const doubled = ranMs > this.#pauseMs ? 0 : this.#pauseMs * 2
    this.#pauseMs = Math.min(Math.max(doubled, minPauseMs), maxPauseMs)
    return Math.round(this.#pauseMs * (0.5 + Math.random() / 2))
  }

  /** Only {@link stop} ends it: instances whose jobs all fail would otherwise wake each other at once. */
  async #backOff(ms: number): Promise<void> {
    if (ms > 0) await sleep(ms, undefined, { ref: false, signal: this.#stopping.signal }).catch(() => {})
  }

  #resignUnlessEligible(): void {
    if (!this.#mayLead) this.#lease?.resign()
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
