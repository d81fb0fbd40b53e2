/** A value, or a promise of it. An in-memory store returns values, so a request does not wait for a microtask. */
export type MaybePromise<T> = T | Promise<T>

/** `next(value)`, at once unless `value` is a promise. */
export function chain<T, U>(value: MaybePromise<T>, next: (value: T) => MaybePromise<U>): MaybePromise<U> {
  return value instanceof Promise ? value.then(next) : next(value)
}

/** Both values. Neither waits for the other. */
export function both<A, B>(a: MaybePromise<A>, b: MaybePromise<B>): MaybePromise<[A, B]> {
  return a instanceof Promise || b instanceof Promise ? Promise.all([a, b]) : [a, b]
}

/** Calls `work`, then `done` or `failed`: synchronously when `work` is synchronous. */
export function run<T>(work: () => MaybePromise<T>, done: (value: T) => void, failed: (error: unknown) => void): void {
  let value: MaybePromise<T>
  try {
    value = work()
  } catch (error) {
    failed(error)
    return
  }
  if (value instanceof Promise) value.then(done, failed)
  else done(value)
}

export type ErrorCallback = (error: unknown) => void

/** Calls `work` and reports the outcome to `callback`. Without a callback it returns a promise. */
export function settle(work: () => MaybePromise<void>, callback: ErrorCallback | undefined): Promise<void> | void {
  if (callback) run(work, () => callback(null), callback)
  else return new Promise((resolve, reject) => run(work, resolve, reject))
}
