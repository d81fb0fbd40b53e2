/** Calls `fn` at most once per `everyMs`, so that what others can cause at will does not fill a log. */
export function seldom<A extends unknown[]>(fn: (...args: A) => void, everyMs: number = 60_000): (...args: A) => void {
  let next = Number.NEGATIVE_INFINITY
  return (...args) => {
    const now = performance.now()
    if (now < next) return
    next = now + everyMs
    fn(...args)
  }
}
