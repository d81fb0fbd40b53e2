import { performance } from 'node:perf_hooks'
import type { Target } from '../target.ts'
import type { Policy } from './policy.ts'
import { samplePair, samplerOf } from './sample.ts'

/** Cost in milliseconds of a target without a measurement while its first request is in flight. */
const unmeasuredMs = 60_000

/**
 * Samples two targets at random and picks the one with the lower expected wait: peak-sensitive latency × (requests in
 * flight + 1). If that one is busy, a third is sampled, because a slow second sample left no real choice. O(1). A failure
 * counts as a slow response (see {@link Target.latency}), so that a target that fails fast is not preferred.
 * Source: Finagle's "Power of Two Choices: Peak EWMA".
 */
export class LeastResponseTime implements Policy {
  readonly #sampler = samplerOf()

  pick(targets: readonly Target[]): Target {
    const sample = this.#sampler(targets)
    const [a, b] = samplePair(targets, sample)
    const now = performance.now()
    const best = better(a, b, now)
    return best.inflight === 0 ? best : better(best, sample(), now)
  }
}

const better = (a: Target, b: Target, now: number): Target =>
  cost(b, now) * a.weight < cost(a, now) * b.weight ? b : a

function cost(target: Target, now: number): number {
  const latency = target.latency.at(now)
  // A new target receives one request for a first measurement, not all of them.
  if (latency === 0) return unmeasuredMs * target.inflight
  return latency * (target.inflight + 1)
}
