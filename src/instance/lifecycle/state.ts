import type { LifecycleState } from '../identity.ts'

/** The state `starting → serving ⇄ draining → closed` and its listeners. */
export class Lifecycle {
  state: LifecycleState = 'starting'
  #drainingSince = 0
  readonly #listeners: ((state: LifecycleState) => void)[] = []
  readonly #onError: (error: unknown) => void

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError
  }

  onState(listener: (state: LifecycleState) => void): void {
    this.#listeners.push(listener)
  }

  /** An operator may have drained the instance long before its shutdown. */
  get drainingForMs(): number {
    return performance.now() - this.#drainingSince
  }

  /** Does nothing unless the current state is one of `from`. */
  move(to: LifecycleState, from: readonly LifecycleState[]): void {
    if (!from.includes(this.state)) return
    this.state = to
    if (to === 'draining') this.#drainingSince = performance.now()
    for (const listener of this.#listeners) {
      try {
        listener(to)
      } catch (error) {
        this.#onError(error)
      }
    }
  }
}
