import type { Target } from '../target.ts'
import { perList } from './per-list.ts'
import type { Policy } from './policy.ts'
import { VirtualTime } from './virtual-time.ts'

/**
 * Smooth weighted round robin: over any run of requests each target is within one or two requests of its share, so a heavy
 * target does not receive its share in one burst. nginx's loop (`ngx_http_upstream_get_round_robin_peer`) visits every
 * target per request; earliest-deadline-first in virtual time, as in Envoy, gives the same result in O(log n).
 */
export class Weighted implements Policy {
  readonly #time = new VirtualTime()
  readonly #heap = perList((targets) => this.#time.heap(targets, (a, b) => a.due < b.due))

  pick(targets: readonly Target[]): Target {
    return this.#time.take(this.#heap(targets))
  }
}
