import { performance } from 'node:perf_hooks'
import type { Target } from '../target.ts'
import { LeastResponseTime } from './least-response-time.ts'
import { perList } from './per-list.ts'
import type { Policy } from './policy.ts'

export interface PrequalOptions {
  /** Probes sent per request, on average; without requests none are sent. 0.1 to 10. @default 1 */
  probesPerRequest: number
  /** Answers kept to choose from, 2 to 64, at most one per target. @default 16 */
  poolSize: number
  /** An answer older than this says nothing any more, in milliseconds. @default 1000 */
  maxAgeMs: number
  /** Requests that may be sent on the strength of one answer, 1 to 100. @default 3 */
  reuse: number
  /** A target with more in flight than this quantile of the recent answers is hot, 0 to 1. @default 0.84 */
  hotQuantile: number
}

/** How loaded a target is: requests in flight, and what one takes at present. */
export interface Load {
  readonly inflight: number
  readonly latencyMs: number
}
export type LoadProbe = (target: Target) => Promise<Load>

interface Answer extends Load {
  readonly target: Target
  readonly at: number
  inflight: number
  uses: number
}

/** In a fleet that has little to do the quantile is 0, and one request would make a target hot. */
const neverHot = 2

/**
 * Probing to reduce queuing and latency: a small pool of recent answers about load, asked for asynchronously so that no
 * request waits for one. Targets with many requests in flight are hot; the fastest of the others is taken, or the
 * least loaded one when all are hot. O(pool size), whatever the number of targets.
 *
 * Source: Wydrowski, Kleinberg, Rumble, Archer, "Load is not what you should balance: Introducing Prequal", NSDI 2024.
 * Its reuse budget is a formula for fleets far larger than the pool; here it is a number, which holds for small ones too.
 */
export class Prequal implements Policy {
  readonly #options: PrequalOptions
  readonly #probe: LoadProbe
  readonly #members = perList((targets) => new Set(targets))
  readonly #recent = new RecentLoads()
  /** While there are too few answers: what is known here. The paper takes one at random, be it the slow one. */
  readonly #uninformed = new LeastResponseTime()
  #pool: Answer[] = []
  #owed = 0
  #pending = 0
  #closed = false

  constructor(options: PrequalOptions, probe: LoadProbe) {
    this.#options = options
    this.#probe = probe
  }

  pick(targets: readonly Target[]): Target {
    this.#ask(targets)
    const best = this.#best(targets)
    if (!best) return this.#uninformed.pick(targets)
    // The answer grows old with each request that is sent on its strength.
    best.inflight++
    best.uses++
    return best.target
  }

  close(): void {
    this.#closed = true
  }

  /** Hot-cold lexicographic rule. Undefined with fewer than two answers, when there is nothing to compare. */
  #best(targets: readonly Target[]): Answer | undefined {
    const members = this.#members(targets)
    const oldest = performance.now() - this.#options.maxAgeMs
    this.#pool = this.#pool.filter(
      ({ at, uses, target }) => at >= oldest && uses < this.#options.reuse && members.has(target),
    )
    if (this.#pool.length < Math.min(2, targets.length)) return undefined
    const hot = Math.max(neverHot, this.#recent.quantile(this.#options.hotQuantile))
    return this.#pool.reduce((best, answer) => (better(answer, best, hot) ? answer : best))
  }

  #ask(targets: readonly Target[]): void {
    this.#owed += this.#options.probesPerRequest
    for (; this.#owed >= 1; this.#owed--) {
      if (this.#pending >= this.#options.poolSize) continue
      const target = random(targets)
      this.#pending++
      this.#probe(target).then(
        (load) => this.#learn(target, load),
        () => this.#pending--,
      )
    }
  }

  #learn(target: Target, { inflight, latencyMs }: Load): void {
    this.#pending--
    if (this.#closed) return
    this.#recent.add(inflight)
    this.#pool = this.#pool.filter((answer) => answer.target !== target).slice(1 - this.#options.poolSize)
    this.#pool.push({ target, inflight, latencyMs, at: performance.now(), uses: 0 })
  }
}

/**
 * The paper has a server estimate the latency of a request that comes now, with what is in flight there. Who only knows a
 * mean has to make that of it, or an idle slow target would be preferred to a fast one with a single request.
 */
const latencyNow = ({ latencyMs, inflight }: Answer): number => latencyMs * (inflight + 1)

function better(a: Answer, b: Answer, hot: number): boolean {
  const aHot = a.inflight > hot
  const bHot = b.inflight > hot
  if (aHot !== bHot) return bHot
  return aHot ? a.inflight < b.inflight : latencyNow(a) < latencyNow(b)
}

/** The last 128 figures, in order of arrival and in order of size. */
class RecentLoads {
  readonly #arrived: number[] = []
  readonly #sorted: number[] = []

  add(value: number): void {
    if (this.#arrived.length >= 128) this.#sorted.splice(this.#place(this.#arrived.shift() as number), 1)
    this.#arrived.push(value)
    this.#sorted.splice(this.#place(value), 0, value)
  }

  quantile(share: number): number {
    return this.#sorted[Math.floor((this.#sorted.length - 1) * share)] ?? 0
  }

  /** Index of the first figure that is not below `value`. */
  #place(value: number): number {
    let low = 0
    let high = this.#sorted.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#sorted[middle] as number) < value) low = middle + 1
      else high = middle
    }
    return low
  }
}

const random = (targets: readonly Target[]): Target => targets[Math.floor(Math.random() * targets.length)] as Target
