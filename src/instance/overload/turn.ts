/**
 * The running turn of the event loop, as far as requests have a part in it: it begins with the first of them and ends
 * when all that had arrived have been looked at. What is worked off late in a turn has waited for all before it.
 */
export class Turn {
  #open = false
  #began = 0
  #requests = 0

  /** How many requests were looked at in it. */
  get requests(): number {
    return this.#requests
  }

  /** How long the turn has lasted, in milliseconds. To be asked for every request. */
  age(): number {
    this.#requests++
    if (this.#open) return performance.now() - this.#began
    this.#open = true
    this.#began = performance.now()
    setImmediate(this.#end)
    return 0
  }

  readonly #end = (): void => {
    this.#open = false
    this.#requests = 0
  }
}
