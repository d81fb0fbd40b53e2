import type { Counts, HistoryStore, HistoryWrite } from './store.ts'
import { stepMs } from './store.ts'

/** Instances write at different times after the end of a step, within this time, ms. */
const spreadMs = 2_500
/** Steps between two writes of the counts by route: 1 in a small fleet, and a minute from this many instances on. */
const [mostRouteSteps, peersPerStep] = [6, 20]

export interface RecorderParts {
  readonly store: HistoryStore
  /** Counts since the last call. */
  readonly counts: () => Counts
  readonly routes: () => Map<string, Counts>
  /** Number of instances of the fleet. */
  readonly peers: () => number
  readonly process: string
  readonly back: HistoryWrite['back']
  /** Called after each attempt. */
  readonly done: (isWritten: boolean) => void
}

/**
 * Writes the counts of this instance to the store, shortly after the end of each step by the clock of the store. The counts
 * of a step that cannot be written are dropped: the history has a gap, and nothing accumulates.
 */
export class Recorder {
  readonly #parts: RecorderParts
  readonly #phaseMs = Math.random() * spreadMs
  /** How far the clock of the store is ahead of this process's, ms; `undefined` until it was read. */
  #aheadMs: number | undefined
  /** End of the last step that was written. */
  #lastEnd = 0
  #steps = 0
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(parts: RecorderParts) {
    this.#parts = parts
  }

  /** By the clock of the store, Unix time in ms. */
  now(): number {
    return Math.round(Date.now() + (this.#aheadMs ?? 0))
  }

  start(): void {
    if (this.#timer || this.#stopped) return
    this.#schedule()
    void this.#clock(() => this.#parts.store.time()).then(
      () => this.#schedule(),
      () => {},
    )
  }

  /** Writes the counts of the present step, of which this instance sees no end. Never rejects. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    clearTimeout(this.#timer)
    if (!this.#timer) return
    const { store, counts, routes, back, done } = this.#parts
    const now = this.now()
    const last = counts()
    // Figures of the process are those of a full step.
    for (const name of ['n', 'u', 'k']) last.delete(name)
    const write = { start: now - (now % stepMs), counts: last, routes: routes(), process: '', back }
    if (last.size > 0 && this.#aheadMs !== undefined)
      await store.add(write).then(
        () => done(true),
        () => done(false),
      )
    await this.#writing
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    if (this.#stopped) return
    const at = this.now() - this.#phaseMs
    // A timer may fire a little early, and the step that it was for must not be written twice.
    const next = at - (at % stepMs) + stepMs
    const end = next === this.#lastEnd ? next + stepMs : next
    this.#timer = setTimeout(() => {
      const lateMs = this.now() - this.#phaseMs - end
      this.#lastEnd = end + Math.max(0, Math.floor(lateMs / stepMs)) * stepMs
      this.#writing = this.#write(this.#lastEnd - stepMs).finally(() => this.#schedule())
    }, end - at).unref()
  }

  /** Never rejects. */
  async #write(start: number): Promise<void> {
    const { store, process, back, counts, routes, peers, done } = this.#parts
    const written = counts()
    const every = Math.min(mostRouteSteps, Math.ceil(peers() / peersPerStep))
    const isRoutesTurn = ++this.#steps % every === 0
    const byRoute = isRoutesTurn ? routes() : new Map<string, Counts>()
    // Before the clock of the store is known, the step is not.
    const isSynchronized = this.#aheadMs !== undefined
    try {
      await this.#clock(() =>
        isSynchronized ? store.add({ start, counts: written, routes: byRoute, process, back }) : store.time(),
      )
      done(isSynchronized)
    } catch {
      done(false)
    }
  }

  async #clock(read: () => Promise<number>): Promise<void> {
    const sentAt = Date.now()
    const now = await read()
    this.#aheadMs = now - (sentAt + Date.now()) / 2
  }
}
