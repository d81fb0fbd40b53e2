import type { Target } from '../target.ts'
import type { Policy } from './policy.ts'
import { samplerOf } from './sample.ts'

/** At random, in proportion to the weights. O(1). Many balancers that know nothing of each other do not move in step. */
export class Random implements Policy {
  readonly #sampler = samplerOf()

  pick(targets: readonly Target[]): Target {
    return this.#sampler(targets)()
  }
}
