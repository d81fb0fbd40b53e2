import { addressKey } from '../../../base/client-address.ts'
import type { Target } from '../target.ts'
import { hashText, mix } from './hash.ts'
import { perList } from './per-list.ts'
import type { PickInput, Policy } from './policy.ts'

/** Enough that 1,000 targets get shares within about 12 % of each other, and 10 within 2 %. */
const buckets = 65_536

/**
 * Sends the same client (an IPv4 address or an IPv6 /64 network) to the same target: rendezvous hashing over 65,536
 * buckets of clients. Each target bids for a bucket with a hash of both; the highest bid wins. When a target is removed,
 * only its clients move; when it returns, exactly these move back. Independent balancers agree. O(1): winners are cached.
 * Source: Thaler, Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM ToN 1998; weights as in
 * Schindelhauer, Schomaker, "Weighted Distributed Hash Tables", SPAA 2005.
 */
export class IpHash implements Policy {
  readonly affinity = true
  readonly #winners = perList((targets) => new Winners(targets))

  pick(targets: readonly Target[], input: PickInput): Target {
    return this.#winners(targets).of(hashText(addressKey(input.client, 64)) % buckets)
  }
}

class Winners {
  readonly #targets: readonly Target[]
  readonly #seeds: readonly number[]
  readonly #weighted: boolean
  /** 1 + index of the winner; 0: not computed yet. */
  readonly #known = new Uint16Array(buckets)

  constructor(targets: readonly Target[]) {
    this.#targets = targets
    this.#seeds = targets.map(({ id }) => hashText(id))
    this.#weighted = targets.some(({ weight }) => weight !== targets[0]?.weight)
  }

  of(bucket: number): Target {
    let index = (this.#known[bucket] as number) - 1
    if (index < 0) {
      index = this.#elect(mix(bucket))
      this.#known[bucket] = index + 1
    }
    return this.#targets[index] as Target
  }

  #elect(bucketHash: number): number {
    let winner = 0
    let highest = -1
    for (let i = 0; i < this.#seeds.length; i++) {
      const hash = mix(bucketHash ^ (this.#seeds[i] as number))
      const bid = this.#weighted ? (this.#targets[i] as Target).weight / -Math.log((hash + 0.5) / 2 ** 32) : hash
      if (bid > highest) {
        highest = bid
        winner = i
      }
    }
    return winner
  }
}
