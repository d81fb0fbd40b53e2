import { setTimeout as delay } from 'node:timers/promises'

/** Polls `condition` at least once. @returns whether it held within `timeoutMs` */
export async function waitUntil(
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
  pollMs: number,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > deadline) return false
    await delay(pollMs)
  }
  return true
}
