/** A value now, or a promise of it. What a store answers at once, a response need not wait for. */
export type Later<T> = T | Promise<T>

export function chain<T, U>(value: Later<T>, next: (value: T) => Later<U>): Later<U> {
  return value instanceof Promise ? value.then(next) : next(value)
}

/** Two things that do not wait for each other. */
export function both<A, B>(a: Later<A>, b: Later<B>): Later<[A, B]> {
  return a instanceof Promise || b instanceof Promise ? Promise.all([a, b]) : [a, b]
}

/** Does some work and tells one of the two how it ended: at once, when it ended at once. */
export function run<T>(work: () => Later<T>, done: (value: T) => void, failed: (error: unknown) => void): void {
  let value: Later<T>
  try {
    value = work()
  } catch (error) {
    failed(error)
    return
  }
  if (value instanceof Promise) value.then(done, failed)
  else done(value)
}

export type Callback = (error: unknown) => void

/** Does some work and tells a callback, or the promise that is returned without one. */
export function settle(work: () => Later<void>, callback: Callback | undefined): Promise<void> | void {
  if (callback) run(work, () => callback(null), callback)
  else return new Promise((resolve, reject) => run(work, resolve, reject))
}
