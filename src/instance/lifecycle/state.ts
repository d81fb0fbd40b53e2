import type { LifecycleState } from '../identity.ts'

/** `starting → serving ⇄ draining → closed`, and who wants to know. */
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

  /** An operator may have drained the instance long before it is ended. */
  get drainingForMs(): number {
    return performance.now() - this.#drainingSince
  }

  /** Moves on when the present state is one of `from`, else does nothing. */
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
