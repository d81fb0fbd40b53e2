import type { Target } from '../target.ts'
import type { Policy } from './policy.ts'

/** Picks the targets in order, whatever their weight. O(1). */
export class RoundRobin implements Policy {
  #next = 0

  pick(targets: readonly Target[]): Target {
    if (this.#next >= targets.length) this.#next = 0
    return targets[this.#next++] as Target
  }
}
