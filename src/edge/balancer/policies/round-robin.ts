import type { Target } from '../target.ts'
import type { Policy } from './policy.ts'

/** One after the other, whatever they weigh. O(1). */
export class RoundRobin implements Policy {
  #next = 0

  pick(targets: readonly Target[]): Target {
    if (this.#next >= targets.length) this.#next = 0
    return targets[this.#next++] as Target
  }
}
