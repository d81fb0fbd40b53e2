import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/** Serves `/orders?id=` for every unsafe method, and writes the id of each execution into a file. */
export function serveOrders(app: FastifyInstance, ledger: string, respond: () => unknown, path = '/orders'): void {
  app.route<{ Querystring: { id: string } }>({
    method: ['POST', 'PUT', 'PATCH', 'DELETE'],
    url: path,
    handler: async ({ query }) => {
      // A single atomic append, from any process, so that no second execution goes unnoticed.
      appendFileSync(ledger, `${query.id}\n`)
      // Most requests that are lost with a process were executed by then, so that a repetition is a second execution.
      await sleep(5)
      return respond()
    },
  })
}

/** How often each id with this prefix was executed. */
export function executions(ledger: string, prefix = ''): Map<string, number> {
  const counts = new Map<string, number>()
  const lines = existsSync(ledger) ? readFileSync(ledger, 'utf8').split('\n') : []
  for (const id of lines) if (id !== '' && id.startsWith(prefix)) counts.set(id, (counts.get(id) ?? 0) + 1)
  return counts
}
