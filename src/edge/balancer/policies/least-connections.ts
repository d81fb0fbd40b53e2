import type { Target } from '../target.ts'
import type { Heap } from './heap.ts'
import { perList } from './per-list.ts'
import type { Policy } from './policy.ts'
import { type Entry, VirtualTime } from './virtual-time.ts'

/**
 * Picks the target with the fewest requests in flight relative to its weight. Ties are broken in round-robin order, so
 * that an idle fleet does not send every request to its first target. O(log n).
 */
export class LeastConnections implements Policy {
  readonly #time = new VirtualTime()
  /** The entry of each target in the heap of the latest list. */
  readonly #entries = new WeakMap<Target, { heap: Heap<Entry>; entry: Entry }>()
  readonly #heap = perList((targets) => {
    const heap = this.#time.heap(targets, before)
    for (const entry of heap.members) this.#entries.set(entry.target, { heap, entry })
    return heap
  })

  pick(targets: readonly Target[]): Target {
    return this.#time.take(this.#heap(targets))
  }

  loaded(target: Target): void {
    const found = this.#entries.get(target)
    found?.heap.moved(found.entry)
  }
}

function before(a: Entry, b: Entry): boolean {
  const difference = a.target.inflight * b.target.weight - b.target.inflight * a.target.weight
  return difference < 0 || (difference === 0 && a.due < b.due)
}
