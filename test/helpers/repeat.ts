import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Runs `iteration` over and over in `clients` concurrent loops, each with a pause of `pauseMs` (default 12) after an iteration.
 *
 * @returns stops the loops and waits until the iterations in progress have ended
 */
export function repeat(
  clients: number,
  iteration: (client: number, i: number) => Promise<void>,
  pauseMs = 12,
): () => Promise<void> {
  let running = true
  const loops = Array.from({ length: clients }, async (_, client) => {
    for (let i = 0; running; i++) {
      await iteration(client, i)
      if (pauseMs > 0) await sleep(pauseMs)
    }
  })
  return async () => {
    running = false
    await Promise.all(loops)
  }
}
