import { setTimeout as sleep } from 'node:timers/promises'

/** The real clock, even in a test that mocks `performance.now`. */
const now = performance.now.bind(performance)

class Unsettled extends Error {}

/**
 * Polls `fn` until it returns a truthy value without throwing, and returns that value.
 *
 * @throws after `timeoutMs` (default 60,000, enough for a busy machine), naming `what`, with the last error as the cause
 */
export async function until<T>(
  fn: () => T | Promise<T>,
  { timeoutMs = 60_000, what = 'the condition' }: { timeoutMs?: number; what?: string } = {},
): Promise<NonNullable<T>> {
  const deadline = now() + timeoutMs
  let last: unknown
  for (let pause = 2; ; pause = Math.min(pause * 2, 50)) {
    try {
      const value = await inTime(fn(), deadline - now())
      if (value) return value
      last = value
    } catch (error) {
      // The result before it tells more than that the deadline ended an attempt.
      if (!(error instanceof Unsettled && last !== undefined)) last = error
    }
    if (now() >= deadline) break
    await sleep(pause)
  }
  throw new Error(`${what} did not come true within ${timeoutMs} ms; last: ${last}`, { cause: last })
}

/** An attempt that never settles must not outlive the deadline. */
async function inTime<T>(attempt: T | Promise<T>, leftMs: number): Promise<T> {
  if (!(attempt instanceof Promise)) return attempt
  const timer = new AbortController()
  const late = sleep(Math.max(0, leftMs), undefined, { signal: timer.signal }).then(() => {
    throw new Unsettled('an attempt did not settle')
  })
  try {
    return await Promise.race([attempt, late])
  } finally {
    timer.abort()
    late.catch(() => {})
  }
}
