import { performance } from 'node:perf_hooks'
import { int, number, type Resolved } from '../../../base/options.ts'
import type { Target } from '../target.ts'
import { LeastResponseTime } from './least-response-time.ts'
import { perList } from './per-list.ts'
import type { Policy } from './policy.ts'

export const prequalOptions = {
  /** Probes sent per request, on average; without requests none are sent. */
  probesPerRequest: number(0.1, 10).default(1),
  /** Probe results kept to choose from, at most one per target. */
  poolSize: int(2, 64).default(16),
  /** A probe result expires after this time. */
  maxAgeMs: int(1, 3_600_000, 'milliseconds').default(1000),
  /** Requests that one probe result may be used for. */
  reuse: int(1, 100).default(3),
  /** A target with more in flight than this quantile of the recent results is hot. */
  hotQuantile: number(0, 1).default(0.84),
}
export type PrequalOptions = Resolved<typeof prequalOptions>

/** Load of a target: requests in flight, and the current latency of one. */
export interface Load {
  readonly inflight: number
  readonly latencyMs: number
}
export type LoadProbe = (target: Target) => Promise<Load>

interface ProbeResult extends Load {
  readonly target: Target
  readonly at: number
  inflight: number
  uses: number
}

/** A target with this many in flight or fewer is never hot. In an idle fleet the quantile is 0, and one request would do. */
const neverHot = 2

/**
 * Prequal ("probing to reduce queuing and latency") keeps a small pool of recent probe results, fetched asynchronously so that no
 * request waits for one. Targets with many requests in flight are hot. It picks the fastest of the others, or the least
 * loaded one when all are hot. O(pool size), independent of the number of targets.
 *
 * Source: Wydrowski, Kleinberg, Rumble, Archer, "Load is not what you should balance: Introducing Prequal", NSDI 2024.
 * Its reuse budget is a formula for fleets far larger than the pool; here it is a number, which also suits small fleets.
 */
export class Prequal implements Policy {
  readonly #options: PrequalOptions
  readonly #probe: LoadProbe
  readonly #members = perList((targets) => new Set(targets))
  readonly #recent = new RecentLoads()
  /** Used while the pool has too few results. The paper picks at random, which may hit the slow target. */
  readonly #uninformed = new LeastResponseTime()
  /** The oldest first. */
  readonly #pool: ProbeResult[] = []
  #probesDue = 0
  #pending = 0
  #closed = false

  constructor(options: PrequalOptions, probe: LoadProbe) {
    this.#options = options
    this.#probe = probe
  }

  pick(targets: readonly Target[]): Target {
    this.#sendProbes(targets)
    const best = this.#best(targets)
    if (!best) return this.#uninformed.pick(targets)
    // Each request sent because of a result makes that result less accurate.
    best.inflight++
    best.uses++
    return best.target
  }

  close(): void {
    this.#closed = true
  }

  /** Hot-cold lexicographic rule. Undefined with fewer than two results, when there is nothing to compare. */
  #best(targets: readonly Target[]): ProbeResult | undefined {
    const { maxAgeMs, reuse, hotQuantile } = this.#options
    const members = this.#members(targets)
    const oldest = performance.now() - maxAgeMs
    const hot = Math.max(neverHot, this.#recent.quantile(hotQuantile))
    let best: ProbeResult | undefined
    let least = Number.POSITIVE_INFINITY
    let [kept, known] = [0, 0]
    for (const result of this.#pool) {
      if (result.at < oldest || result.uses >= reuse) continue
      this.#pool[kept++] = result
      // One of another list, such as the canaries, or one that has left.
      if (!members.has(result.target)) continue
      known++
      const cost = costOf(result, hot)
      if (cost < least) {
        best = result
        least = cost
      }
    }
    this.#pool.length = kept
    return known < Math.min(2, targets.length) ? undefined : best
  }

  #sendProbes(targets: readonly Target[]): void {
    this.#probesDue += this.#options.probesPerRequest
    for (; this.#probesDue >= 1; this.#probesDue--) {
      if (this.#pending >= this.#options.poolSize) continue
      const target = random(targets)
      this.#pending++
      this.#probe(target).then(
        (load) => this.#record(target, load),
        () => this.#pending--,
      )
    }
  }

  #record(target: Target, { inflight, latencyMs }: Load): void {
    this.#pending--
    if (this.#closed) return
    this.#recent.add(inflight)
    const before = this.#pool.findIndex((result) => result.target === target)
    if (before >= 0) this.#pool.splice(before, 1)
    else if (this.#pool.length >= this.#options.poolSize) this.#pool.shift()
    this.#pool.push({ target, inflight, latencyMs, at: performance.now(), uses: 0 })
  }
}

/**
 * Expected latency of a request sent now. In the paper, the server estimates it from its requests in flight. A target that
 * reports only a mean needs this correction, or an idle slow target would be preferred to a fast one with one request.
 */
const latencyNow = ({ latencyMs, inflight }: ProbeResult): number => latencyMs * (inflight + 1)

/** More than any latency. */
const hotCost = 1e12

/** Orders cold targets by latency, and after them hot targets by their requests in flight. */
const costOf = (result: ProbeResult, hot: number): number =>
  result.inflight > hot ? hotCost + result.inflight : latencyNow(result)

/** The last 128 values, in order of arrival and in order of size. */
class RecentLoads {
  readonly #arrived: number[] = []
  readonly #sorted: number[] = []
  /** Index of the oldest value in `#arrived`, once there are 128. */
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

  /** Values are similar, so the new one is usually close to the index of the old one. */
  #replace(place: number, value: number): void {
    const sorted = this.#sorted
    let at = place
    for (; at > 0 && (sorted[at - 1] as number) > value; at--) sorted[at] = sorted[at - 1] as number
    for (; at < 127 && (sorted[at + 1] as number) < value; at++) sorted[at] = sorted[at + 1] as number
    sorted[at] = value
  }

  /** Index of the first value that is not below `value`. */
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
