import type { Target } from '../target.ts'
import type { Policy } from './policy.ts'
import { samplePair, samplerOf } from './sample.ts'

/**
 * Samples two targets at random and picks the one with fewer requests in flight relative to its weight. O(1). Nearly as
 * even as comparing all targets, and without the herd effect of many balancers choosing the same least loaded target.
 * Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001.
 */
export class TwoChoices implements Policy {
  readonly #sampler = samplerOf()

  pick(targets: readonly Target[]): Target {
    const [a, b] = samplePair(targets, this.#sampler(targets))
    return b.inflight * a.weight < a.inflight * b.weight ? b : a
  }
}
