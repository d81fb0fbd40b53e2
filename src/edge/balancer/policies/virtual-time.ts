import type { Target } from '../target.ts'
import { Heap, type Placed } from './heap.ts'

const goldenRatio = (Math.sqrt(5) - 1) / 2

/** A target in a heap. */
export interface Entry extends Placed {
  readonly target: Target
  /** Virtual time between two requests. Infinite with weight 0, unless all targets of the heap have that weight. */
  readonly interval: number
  /** Virtual time of its next request. */
  due: number
}

/**
 * Virtual time in which a target of weight w is due every 1/w; the earliest is next. Source: Demers, Keshav, Shenker,
 * "Analysis and Simulation of a Fair Queueing Algorithm", SIGCOMM 1989.
 */
export class VirtualTime {
  /** Finite values, kept across lists, so that a changed list does not restart the round. */
  readonly #due = new WeakMap<Target, number>()
  #now = 0
  #phase = 0

  heap(targets: readonly Target[], before: (a: Entry, b: Entry) => boolean): Heap<Entry> {
    const unweighted = targets.every(({ weight }) => weight === 0)
    const entries = targets.map((target) => {
      const interval = unweighted ? 1 : 1 / target.weight
      return { target, interval, due: this.#dueOf(target, interval), place: 0 }
    })
    return new Heap(entries, before)
  }

  /** Takes the first target. Requests missed while it was out of rotation do not accumulate. */
  take(heap: Heap<Entry>): Target {
    const entry = heap.top
    this.#now = Math.max(this.#now, entry.due)
    entry.due = this.#now + entry.interval
    this.#due.set(entry.target, entry.due)
    heap.moved(entry)
    return entry.target
  }

  /**
   * New targets start at different phases. Otherwise all targets of one weight would be picked in one burst, for ever.
   * Multiples of the golden ratio keep any number of phases apart.
   */
  #dueOf(target: Target, interval: number): number {
    const known = this.#due.get(target)
    // The weight may have been raised since.
    if (known !== undefined)
      return interval === Number.POSITIVE_INFINITY ? interval : Math.min(known, this.#now + interval)
    this.#phase = (this.#phase + goldenRatio) % 1
    return this.#now + this.#phase * interval
  }
}
