import { performance } from 'node:perf_hooks'
import type { Target } from '../target.ts'
import type { Policy } from './policy.ts'
import { samplePair, samplerOf } from './sample.ts'

/** Cost of a target nobody has measured yet while a first request is on its way there, in milliseconds. */
const unmeasuredMs = 60_000

/**
 * Two at random, of which the one with the lower expected wait: peak-sensitive latency × (requests in flight + 1); and one
 * more when that one is busy, because where the other was just slow there was no choice. O(1). A failure counts as a slow answer (see {@link Target.latency}), so a target that fails fast is not preferred for it.
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
  // A new target gets one request to show what it can do, not all of them at once.
  if (latency === 0) return unmeasuredMs * target.inflight
  return latency * (target.inflight + 1)
}
