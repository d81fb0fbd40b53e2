import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** How long a process has waited for a CPU so far, ms; `undefined` where the kernel does not report it (Linux does). */
function queuedMs(pid: number): number | undefined {
  try {
    // Main thread: nanoseconds on a CPU, nanoseconds in the run queue, number of time slices.
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6
  } catch {
    return undefined
  }
}

/** Resolution of the clock, ms. */
const tickMs = 5

/**
 * Polls `fn` until it returns a truthy value within a promised time. The clock is this process's event loop: it stands still
 * while the process, or the whole machine, does. Time that `others` were runnable but waited for a CPU is subtracted.
 *
 * @param others further processes that take part
 * @throws when the condition was not met within `ms`
 */
export async function within(
  ms: number,
  what: string,
  fn: () => unknown,
  others: readonly number[] = [],
): Promise<void> {
  let ticks = 0
  const clock = setInterval(() => ticks++, tickMs)
  const before = others.map((pid) => queuedMs(pid) ?? 0)
  const last = [...before]
  const spent = (): number => {
    for (const [i, pid] of others.entries()) last[i] = queuedMs(pid) ?? (last[i] as number)
    return last.reduce((left, queued, i) => left - queued + (before[i] as number), ticks * tickMs)
  }
  try {
    while (spent() <= ms) {
      if (await fn()) return
      await sleep(tickMs)
    }
  } finally {
    clearInterval(clock)
  }
  throw new Error(`${what}: not within ${ms} ms`)
}
