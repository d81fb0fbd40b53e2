import type { Target } from '../target.ts'
import { perList } from './per-list.ts'
import type { Policy } from './policy.ts'
import { Turns } from './turns.ts'

/**
 * Smooth weighted round robin: in any stretch of requests each target has its share to within a request or two, so a
 * heavy one does not get it in one burst. nginx's own loop (`ngx_http_upstream_get_round_robin_peer`) looks at every
 * target for each request; earliest-deadline-first in virtual time, as in Envoy, comes to the same in O(log n).
 */
export class Weighted implements Policy {
  readonly #turns = new Turns()
  readonly #heap = perList((targets) => this.#turns.heap(targets, (a, b) => a.next < b.next))

  pick(targets: readonly Target[]): Target {
    const heap = this.#heap(targets)
    const turn = heap.top
    this.#turns.took(turn)
    heap.moved(turn)
    return turn.target
  }
}
