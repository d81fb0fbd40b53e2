import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** For how long the kernel has let a process wait for a processor so far, ms; `undefined` where it does not say (Linux does). */
function queuedMs(pid: number): number | undefined {
  try {
    // Of the main thread: nanoseconds on a processor, nanoseconds in the queue for one, and how many turns it had.
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6
  } catch {
    return undefined
  }
}

/**
 * Waits for what is promised to come true within a time. It is wall time, but for that in which the processes that have to
 * keep the promise were ready to run and got no processor, because the machine was busy with others: that is nobody's delay.
 *
 * @param pids the processes that take part, default this one
 * @throws when it has not come true within `ms`
 */
export async function within(
  ms: number,
  what: string,
  fn: () => unknown,
  pids: readonly number[] = [process.pid],
): Promise<void> {
  const began = performance.now()
  const before = pids.map((pid) => queuedMs(pid) ?? 0)
  const last = [...before]
  const spent = (): number => {
    for (const [i, pid] of pids.entries()) last[i] = queuedMs(pid) ?? (last[i] as number)
    return last.reduce((left, queued, i) => left - queued + (before[i] as number), performance.now() - began)
  }
  while (spent() <= ms) {
    if (await fn()) return
    await sleep(5)
  }
  throw new Error(`${what}: not within ${ms} ms`)
}
