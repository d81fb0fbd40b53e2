import type { Target } from '../target.ts'
import type { Heap } from './heap.ts'
import { perList } from './per-list.ts'
import type { Policy } from './policy.ts'
import { type Turn, Turns } from './turns.ts'

/**
 * The target with the fewest requests in flight for its weight; among equals the one whose turn it is, so that an idle
 * fleet does not send everything to its first member. O(log n).
 */
export class LeastConnections implements Policy {
  readonly #turns = new Turns()
  /** Where each target stands; the latest list counts. */
  readonly #standing = new WeakMap<Target, { heap: Heap<Turn>; turn: Turn }>()
  readonly #heap = perList((targets) => {
    const heap = this.#turns.heap(targets, before)
    for (const turn of heap.members) this.#standing.set(turn.target, { heap, turn })
    return heap
  })

  pick(targets: readonly Target[]): Target {
    const heap = this.#heap(targets)
    const turn = heap.top
    this.#turns.took(turn)
    heap.moved(turn)
    return turn.target
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
