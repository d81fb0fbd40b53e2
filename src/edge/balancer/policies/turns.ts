import type { Target } from '../target.ts'
import { Heap, type Placed } from './heap.ts'

const goldenRatio = (Math.sqrt(5) - 1) / 2

/** A target in a heap, with the virtual time of its next turn. */
export interface Turn extends Placed {
  readonly target: Target
  next: number
}

/**
 * Virtual time in which a target of weight w has a turn every 1/w; the earliest turn is next. Source: Demers, Keshav,
 * Shenker, "Analysis and Simulation of a Fair Queueing Algorithm", SIGCOMM 1989.
 */
export class Turns {
  /** Kept across lists, so that a changed list does not restart the round. */
  readonly #next = new WeakMap<Target, number>()
  #now = 0
  #phase = 0

  heap(targets: readonly Target[], before: (a: Turn, b: Turn) => boolean): Heap<Turn> {
    return new Heap(
      targets.map((target) => ({ target, next: this.#nextOf(target), place: 0 })),
      before,
    )
  }

  /** Takes the first target and schedules its next turn. Turns missed while it was out of rotation do not accumulate. */
  take(heap: Heap<Turn>): Target {
    const turn = heap.top
    this.#now = Math.max(this.#now, turn.next)
    turn.next = this.#now + 1 / turn.target.weight
    this.#next.set(turn.target, turn.next)
    heap.moved(turn)
    return turn.target
  }

  /**
   * New targets start at different phases. Otherwise all targets of one weight would be picked in one burst, for ever.
   * Multiples of the golden ratio keep any number of phases apart.
   */
  #nextOf(target: Target): number {
    const known = this.#next.get(target)
    if (known !== undefined) return known
    this.#phase = (this.#phase + goldenRatio) % 1
    return this.#now + this.#phase / target.weight
  }
}
