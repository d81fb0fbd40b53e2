import { caught, guard } from '../boundary.ts'
import type { Found, Source } from './discovery.ts'
import type { Target, TargetOptions } from './target.ts'

/** The part of a balancer that a follower uses. */
export interface TargetList {
  add(options: TargetOptions): Target
  remove(target: Target): Promise<void>
  reweigh(target: Target, weight: number): void
  drain(target: Target): void
  undrain(target: Target): void
}

/** Keeps the targets of a balancer in step with a source. */
export class Follower {
  /** Resolves when the source has reported its first list. */
  readonly first: Promise<void>
  readonly #balancer: TargetList
  readonly #known = new Map<string, { target: Target; draining: boolean }>()
  readonly #stop: () => void

  constructor(balancer: TargetList, source: Source) {
    this.#balancer = balancer
    const { promise, resolve } = Promise.withResolvers<void>()
    this.first = promise
    const listener = guard('the targets of a source', (found: readonly Found[]) => {
      this.#apply(found)
      resolve()
    })
    this.#stop = source(listener)
  }

  close(): void {
    this.#stop()
  }

  #apply(found: readonly Found[]): void {
    const urls = new Set(found.map((one) => one?.url))
    for (const [url, { target }] of this.#known) {
      if (urls.has(url)) continue
      this.#known.delete(url)
      void this.#balancer.remove(target)
    }
    for (const one of found) this.#follow(one)
  }

  /** An invalid entry must not affect the others. */
  #follow(found: Found): void {
    try {
      const { draining = false, ...options } = found
      let known = this.#known.get(options.url)
      // Another process at the same address is a new target: it starts without the latency and failures of the old one.
      if (known && options.id !== undefined && known.target.id !== options.id) {
        void this.#balancer.remove(known.target)
        known = undefined
      }
      if (!known) {
        known = { target: this.#balancer.add(options), draining: false }
        this.#known.set(options.url, known)
      }
      if (options.weight !== undefined) this.#balancer.reweigh(known.target, options.weight)
      if (draining) this.#balancer.drain(known.target)
      else if (known.draining) this.#balancer.undrain(known.target)
      known.draining = draining
    } catch (error) {
      caught('the targets of a source', error)
    }
  }
}
