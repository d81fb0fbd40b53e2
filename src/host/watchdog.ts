import type { Member } from './member.ts'

export interface WatchdogOptions {
  /** A worker without a message for longer than this is stuck, ms. */
  stuckAfterMs: number
  /** Limit for the resident set size of a worker, bytes; 0: no limit. */
  memoryLimit: number
  members(): Iterable<Member>
  onStuck(member: Member, silentMs: number): void
  onMemoryLimit(member: Member): void
}

/** How often workers are checked, ms. */
const intervalMs = 500
/** Consecutive checks above the memory limit before a worker is replaced, so that a short peak has no effect. */
const checksAbove = 6

/** Watches the workers' heartbeats and memory. Workers without the worker plugin send none and are not watched. */
export class Watchdog {
  readonly #options: WatchdogOptions
  readonly #above = new WeakMap<Member, number>()
  #lastCheck = 0
  #timer: NodeJS.Timeout | undefined

  constructor(options: WatchdogOptions) {
    this.#options = options
  }

  start(): void {
    this.#lastCheck = performance.now()
    this.#timer = setInterval(() => this.#check(), intervalMs)
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #check(): void {
    const { stuckAfterMs, memoryLimit, members, onStuck, onMemoryLimit } = this.#options
    const now = performance.now()
    // After a stall of this process (a suspended machine, no CPU) missing heartbeats prove nothing.
    const stalled = now - this.#lastCheck > intervalMs * 4
    this.#lastCheck = now
    for (const member of members()) {
      if (!member.up || !member.plugin) continue
      if (stalled) member.lastBeat = now
      if (now - member.lastBeat > stuckAfterMs) onStuck(member, Math.round(now - member.lastBeat))
      const above = memoryLimit > 0 && member.rss > memoryLimit ? (this.#above.get(member) ?? 0) + 1 : 0
      this.#above.set(member, above)
      if (above >= checksAbove) onMemoryLimit(member)
    }
  }
}
