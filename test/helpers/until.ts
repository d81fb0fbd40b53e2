import { setTimeout as sleep } from 'node:timers/promises'

/** The real clock, also for a test that has put one of its own in its place. */
const now = performance.now.bind(performance)

/**
 * Waits until `fn` gives a truthy value without throwing, and gives that value.
 *
 * @throws after `timeoutMs` (default 60 000: patience, for a machine that is busy with other things), naming `what`, with the last error as its cause
 */
export async function until<T>(
  fn: () => T | Promise<T>,
  { timeoutMs = 60_000, what = 'the condition' }: { timeoutMs?: number; what?: string } = {},
): Promise<NonNullable<T>> {
  const deadline = now() + timeoutMs
  let last: unknown
  for (let pause = 2; ; pause = Math.min(pause * 2, 50)) {
    try {
      const value = await fn()
      if (value) return value
      last = value
    } catch (error) {
      last = error
    }
    if (now() >= deadline) break
    await sleep(pause)
  }
  throw new Error(`${what} did not come true within ${timeoutMs} ms; last: ${last}`, { cause: last })
}
