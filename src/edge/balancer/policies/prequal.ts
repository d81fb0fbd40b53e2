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
  /** The oldest first. */
  readonly #pool: Answer[] = []
  /** Whom the answers in the pool are from. */
  #asked: ReadonlySet<Target> = new Set()
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
    const { maxAgeMs, reuse, hotQuantile } = this.#options
    const members = this.#members(targets)
    // Nearly always the same ones as before, of which all answers are.
    const others = members !== this.#asked
    this.#asked = members
    const oldest = performance.now() - maxAgeMs
    const hot = Math.max(neverHot, this.#recent.quantile(hotQuantile))
    let best: Answer | undefined
    let least = Number.POSITIVE_INFINITY
    let kept = 0
    for (const answer of this.#pool) {
      if (answer.at < oldest || answer.uses >= reuse || (others && !members.has(answer.target))) continue
      this.#pool[kept++] = answer
      const cost = costOf(answer, hot)
      if (cost < least) {
        best = answer
        least = cost
      }
    }
    this.#pool.length = kept
    return kept < Math.min(2, targets.length) ? undefined : best
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
    if (this.#closed || !this.#asked.has(target)) return
    this.#recent.add(inflight)
    const before = this.#pool.findIndex((answer) => answer.target === target)
    if (before >= 0) this.#pool.splice(before, 1)
    else if (this.#pool.length >= this.#options.poolSize) this.#pool.shift()
    this.#pool.push({ target, inflight, latencyMs, at: performance.now(), uses: 0 })
  }
}

/**
 * The paper has a server estimate the latency of a request that comes now, with what is in flight there. Who only knows a
 * mean has to make that of it, or an idle slow target would be preferred to a fast one with a single request.
 */
const latencyNow = ({ latencyMs, inflight }: Answer): number => latencyMs * (inflight + 1)

/** More than any latency. */
const hotCost = 1e12

/** Orders the cold ones by latency, and after all of them the hot ones by what they have in flight. */
const costOf = (answer: Answer, hot: number): number =>
  answer.inflight > hot ? hotCost + answer.inflight : latencyNow(answer)

/** The last 128 figures, in order of arrival and in order of size. */
class RecentLoads {
  readonly #arrived: number[] = []
  readonly #sorted: number[] = []
  /** Where the oldest one stands, when there are that many. */
  #oldest = 0

  add(value: number): void {
    if (this.#arrived.length < 128) {
      this.#arrived.push(value)
      this.#sorted.splice(this.#place(value), 0, value)
      return
    }
    const place = this.#place(this.#arrived[this.#oldest] as number)
    this.#arrived[this.#oldest] = value
    this.#oldest = (this.#oldest + 1) % 128
    this.#replace(place, value)
  }

  quantile(share: number): number {
    return this.#sorted[Math.floor((this.#sorted.length - 1) * share)] ?? 0
  }

  /** Figures are much alike, so that the new one mostly stands where the old one stood. */
  #replace(place: number, value: number): void {
    const sorted = this.#sorted
    let at = place
    for (; at > 0 && (sorted[at - 1] as number) > value; at--) sorted[at] = sorted[at - 1] as number
    for (; at < 127 && (sorted[at + 1] as number) < value; at++) sorted[at] = sorted[at + 1] as number
    sorted[at] = value
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
