import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Runs `turn` over and over in `clients` concurrent loops, each with a pause of `pauseMs` (default 4) after a turn.
 *
 * @returns stops the loops and waits until the turns in progress have ended
 */
export function repeat(
  clients: number,
  turn: (client: number, i: number) => Promise<void>,
  pauseMs = 4,
): () => Promise<void> {
  let running = true
  const loops = Array.from({ length: clients }, async (_, client) => {
    for (let i = 0; running; i++) {
      await turn(client, i)
      if (pauseMs > 0) await sleep(pauseMs)
    }
  })
  return async () => {
    running = false
    await Promise.all(loops)
  }
}
