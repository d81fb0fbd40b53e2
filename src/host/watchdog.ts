import type { Member } from './member.ts'

export interface WatchdogOptions {
  /** A worker that has not been heard of for longer is stuck, ms. */
  stuckAfterMs: number
  /** Resident set size that a worker may not keep, bytes; 0: no limit. */
  memoryLimit: number
  members(): Iterable<Member>
  onStuck(member: Member, silentMs: number): void
  onTooBig(member: Member): void
}

/** How often workers are looked at, ms. */
const everyMs = 500
/** So many looks in a row above the limit, so that a short peak costs nothing. */
const looksAbove = 6

/** Looks at the workers' beats. Those of an app without the worker plugin have none, and are not judged. */
export class Watchdog {
  readonly #options: WatchdogOptions
  readonly #above = new WeakMap<Member, number>()
  #lastLook = 0
  #timer: NodeJS.Timeout | undefined

  constructor(options: WatchdogOptions) {
    this.#options = options
  }

  start(): void {
    this.#lastLook = performance.now()
    this.#timer = setInterval(() => this.#look(), everyMs)
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const { stuckAfterMs, memoryLimit, members, onStuck, onTooBig } = this.#options
    const now = performance.now()
    // When this process itself was held up (a suspended machine, no CPU), the silence of the others proves nothing.
    const heldUp = now - this.#lastLook > everyMs * 4
    this.#lastLook = now
    for (const member of members()) {
      if (!member.up || !member.plugin) continue
      if (heldUp) member.lastBeat = now
      if (now - member.lastBeat > stuckAfterMs) onStuck(member, Math.round(now - member.lastBeat))
      const above = memoryLimit > 0 && member.rss > memoryLimit ? (this.#above.get(member) ?? 0) + 1 : 0
      this.#above.set(member, above)
      if (above >= looksAbove) onTooBig(member)
    }
  }
}
