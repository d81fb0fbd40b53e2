/** Calls `fn` at most once per `everyMs`, so that events that clients can cause do not flood the log. */
export function seldom<A extends unknown[]>(fn: (...args: A) => void, everyMs: number = 60_000): (...args: A) => void {
  let next = Number.NEGATIVE_INFINITY
  return (...args) => {
    const now = performance.now()
    if (now < next) return
    next = now + everyMs
    fn(...args)
  }
}
