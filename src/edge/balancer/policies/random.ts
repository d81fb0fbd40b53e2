import type { Target } from '../target.ts'
import type { Policy } from './policy.ts'
import { samplerOf } from './sample.ts'

/** Picks at random, in proportion to the weights. O(1). Independent balancers do not move in step. */
export class Random implements Policy {
  readonly #sampler = samplerOf()

  pick(targets: readonly Target[]): Target {
    return this.#sampler(targets)()
  }
}
