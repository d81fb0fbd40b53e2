import { BoundedMap } from '../../base/bounded-map.ts'
import { boundedKey, type LimitState, type LimitStore, slices } from './store.ts'

/** Maximum of clients in one process; beyond it the least recently seen are dropped. */
const maxClients = 100_000

/** The requests of one client: a ring of the slices that the window can overlap. */
class Window {
  readonly #counts = new Uint32Array(slices + 1)
  #current = 0

  take(now: number, windowMs: number, max: number, counts: boolean): LimitState {
    const width = Math.ceil(windowMs / slices)
    this.#advance(Math.floor(now / width))
    let sum = 0
    let oldest = this.#current
    for (let slice = this.#current; slice >= this.#current - slices; slice--) {
      const count = this.#at(slice)
      if (count > 0) oldest = slice
      sum += count
    }
    const admitted = sum < max
    if (counts && admitted) this.#counts[indexOf(this.#current)] = this.#at(this.#current) + 1
    if (counts) sum = admitted ? sum + 1 : max + 1
    return { count: sum, resetMs: (oldest + slices + 1) * width - now }
  }

  #at(slice: number): number {
    return this.#counts[indexOf(slice)] as number
  }

  /** Clears the slices that have left the window. */
  #advance(current: number): void {
    if (current - this.#current > slices) this.#counts.fill(0)
    else for (let slice = this.#current + 1; slice <= current; slice++) this.#counts[indexOf(slice)] = 0
    this.#current = Math.max(this.#current, current)
  }
}

/** Slices have negative numbers if the window reaches back before the epoch, as with the mocked clocks of tests. */
const indexOf = (slice: number): number => ((slice % (slices + 1)) + slices + 1) % (slices + 1)

/**
 * A time of day that never goes back: if the system clock is set back, it continues from its last value. A clock change
 * neither admits clients early nor locks them out until the clock catches up.
 */
class Clock {
  #ahead = 0
  #last = Number.NEGATIVE_INFINITY

  now(): number {
    const now = Date.now()
    if (now + this.#ahead < this.#last) this.#ahead = this.#last - now
    this.#last = now + this.#ahead
    return this.#last
  }
}

/** Counts of one process. */
export class MemoryLimitStore implements LimitStore {
  readonly #windows = new BoundedMap<Window>(maxClients)
  readonly #clock = new Clock()

  get size(): number {
    return this.#windows.size
  }

  take(key: string, windowMs: number, max: number, counts: boolean): LimitState {
    const id = `${windowMs} ${boundedKey(key)}`
    let window = this.#windows.get(id)
    if (!window) {
      window = new Window()
      this.#windows.set(id, window)
    }
    return window.take(this.#clock.now(), windowMs, max, counts)
  }
}
