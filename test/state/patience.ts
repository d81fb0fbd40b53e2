import { setTimeout as sleep } from 'node:timers/promises'

/** For tests that are not about a Redis that is slow: one that waits for its turn on a busy machine is not away. */
export const patient = { connectTimeoutMs: 60_000, commandTimeoutMs: 20_000 } as const
/** Options of an app with such plugins. */
export const patientApp = { pluginTimeout: 60_000 } as const

const turnMs = 5

/**
 * Waits for what is promised to come true within a time. The time is that of this process: one for which it got no turn,
 * because the machine was busy with others, is nobody's delay.
 *
 * @throws when it has not come true within `ms`
 */
export async function within(ms: number, what: string, fn: () => unknown): Promise<void> {
  let last = performance.now()
  for (let spent = 0; spent <= ms; ) {
    if (await fn()) return
    await sleep(turnMs)
    const now = performance.now()
    spent += Math.min(now - last, 4 * turnMs)
    last = now
  }
  throw new Error(`${what}: not within ${ms} ms`)
}
