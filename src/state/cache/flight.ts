import { type Entry, usable } from './local.ts'
import type { Reading } from './tiered-store.ts'

/** How a call ended: answered by which layer, or how not. The label set of the metrics. */
export const outcomes = ['memory', 'redis', 'loader', 'stale', 'nothing', 'error'] as const
export type Outcome = (typeof outcomes)[number]

/** One key on its way, and everybody in this process who waits for it. */
export class Flight implements Reading {
  readonly key: string
  readonly tags: Set<string>
  outdated = false
  readonly promise: Promise<unknown>
  /** What may be served when no fresh value can be had. */
  fallback: Entry | undefined
  outcome: Outcome = 'error'
  /** Callers have their answer; the loader may still be at work for the next ones. */
  settled = false
  readonly #end = new AbortController()
  readonly #resolve: (value: unknown) => void
  readonly #reject: (error: unknown) => void
  #wake: (() => void) | undefined

  constructor(key: string, tags: readonly string[], fallback: Entry | undefined) {
    this.key = key
    this.tags = new Set(tags)
    this.fallback = fallback
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    this.promise = promise
    this.#resolve = resolve
    this.#reject = reject
    // Nobody may be waiting: those who asked were served a stale value.
    promise.catch(() => undefined)
  }

  /** Aborted when time is up. */
  get signal(): AbortSignal {
    return this.#end.signal
  }

  settle(outcome: Outcome, value: unknown): void {
    if (this.settled) return
    this.settled = true
    this.outcome = outcome
    this.#resolve(value)
  }

  fail(error: unknown): void {
    this.settled = true
    this.#reject(error)
  }

  /** Serves what is stale, by no more than `windowMs`. @returns what is served, if there is any */
  fallBack(windowMs: number): Entry | undefined {
    if (!this.fallback || !usable(this.fallback, windowMs)) return undefined
    this.settle('stale', this.fallback.promise)
    return this.fallback
  }

  abort(reason: Error): void {
    this.#end.abort(reason)
    this.wake()
  }

  async pause(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, ms)
    this.#wake = resolve
    await promise
    this.#wake = undefined
    clearTimeout(timer)
  }

  /** Ends a pause early. */
  wake(): void {
    this.#wake?.()
  }

  /** What `work` gives; throws as soon as the flight is aborted, however long `work` goes on. */
  async orAborted<T>(work: Promise<T>): Promise<T> {
    const { promise, reject } = Promise.withResolvers<never>()
    const abort = (): void => reject(this.signal.reason)
    this.signal.throwIfAborted()
    this.signal.addEventListener('abort', abort, { once: true })
    try {
      return await Promise.race([work, promise])
    } finally {
      this.signal.removeEventListener('abort', abort)
    }
  }
}
