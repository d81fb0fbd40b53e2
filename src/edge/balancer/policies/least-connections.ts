import type { Target } from '../target.ts'
import type { Heap } from './heap.ts'
import { perList } from './per-list.ts'
import type { Policy } from './policy.ts'
import { type Turn, Turns } from './turns.ts'

/**
 * Picks the target with the fewest requests in flight relative to its weight. Ties are broken in round-robin order, so
 * that an idle fleet does not send every request to its first target. O(log n).
 */
export class LeastConnections implements Policy {
  readonly #turns = new Turns()
  /** The heap entry of each target, in the heap of the latest list. */
  readonly #standing = new WeakMap<Target, { heap: Heap<Turn>; turn: Turn }>()
  readonly #heap = perList((targets) => {
    const heap = this.#turns.heap(targets, before)
    for (const turn of heap.members) this.#standing.set(turn.target, { heap, turn })
    return heap
  })

  pick(targets: readonly Target[]): Target {
    return this.#turns.take(this.#heap(targets))
  }

  loaded(target: Target): void {
    const standing = this.#standing.get(target)
    standing?.heap.moved(standing.turn)
  }
}

function before(a: Turn, b: Turn): boolean {
  const difference = a.target.inflight * b.target.weight - b.target.inflight * a.target.weight
  return difference < 0 || (difference === 0 && a.next < b.next)
}
