/** Calls `fn` at most once per `everyMs`, so that warnings which clients can trigger do not fill a log. */
export function throttle<A extends unknown[]>(
  fn: (...args: A) => void,
  everyMs: number = 60_000,
): (...args: A) => void {
  let next = Number.NEGATIVE_INFINITY
  return (...args) => {
    const now = performance.now()
    if (now < next) return
    next = now + everyMs
    fn(...args)
  }
}
