import type { Target } from '../target.ts'
import { Heap, type Placed } from './heap.ts'

const goldenRatio = (Math.sqrt(5) - 1) / 2

/** A target in a heap, and when its next turn comes. */
export interface Turn extends Placed {
  readonly target: Target
  next: number
}

/**
 * Virtual time, in which a target of weight w has a turn every 1/w: whose turn comes first is served first. Source:
 * Demers, Keshav, Shenker, "Analysis and Simulation of a Fair Queueing Algorithm", SIGCOMM 1989.
 */
export class Turns {
  /** Outlives the lists, so that a change of the list does not begin the round anew. */
  readonly #next = new WeakMap<Target, number>()
  #now = 0
  #phase = 0

  heap(targets: readonly Target[], before: (a: Turn, b: Turn) => boolean): Heap<Turn> {
    return new Heap(
      targets.map((target) => ({ target, next: this.#nextOf(target), place: 0 })),
      before,
    )
  }

  /** The target has had its turn. One that was away has not saved up any. */
  took(turn: Turn): void {
    this.#now = Math.max(this.#now, turn.next)
    turn.next = this.#now + 1 / turn.target.weight
    this.#next.set(turn.target, turn.next)
  }

  /**
   * New targets start at different points of their turn, or all of the same weight would come in one burst for ever;
   * multiples of the golden ratio keep any number of points apart.
   */
  #nextOf(target: Target): number {
    const known = this.#next.get(target)
    if (known !== undefined) return known
    this.#phase = (this.#phase + goldenRatio) % 1
    return this.#now + this.#phase / target.weight
  }
}
