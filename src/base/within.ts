/** Whether a promise is fulfilled or rejected within `ms`; `late` if neither. Never rejects. */
export async function within(ms: number, promise: Promise<unknown>): Promise<'fulfilled' | 'rejected' | 'late'> {
  const { promise: late, resolve } = Promise.withResolvers<'late'>()
  // setImmediate: after a stall of this process, a response that is already in the socket is read first.
  const timer = setTimeout(() => setImmediate(resolve, 'late'), ms)
  const settled = promise.then(
    () => 'fulfilled' as const,
    () => 'rejected' as const,
  )
  const outcome = await Promise.race([settled, late])
  clearTimeout(timer)
  return outcome
}
