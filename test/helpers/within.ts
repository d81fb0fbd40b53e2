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

/**
 * Polls `fn` until it returns a truthy value within a promised time. The time is wall time without the time that `pids` were
 * runnable but waited for a CPU, because the machine was busy with other processes.
 *
 * @param pids the processes that take part, by default this one
 * @throws when the condition was not met within `ms`
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
