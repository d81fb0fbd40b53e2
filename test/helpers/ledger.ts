import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/**
 * Serves `/orders?id=` for every unsafe method, and writes the id of each execution into a file. The response follows `ms=`
 * later, so that a request that is lost with a process was executed there, and a repetition is a second execution.
 */
export function serveOrders(app: FastifyInstance, ledger: string, respond: () => unknown, path = '/orders'): void {
  app.route<{ Querystring: { id: string; ms?: string } }>({
    method: ['POST', 'PUT', 'PATCH', 'DELETE'],
    url: path,
    handler: async ({ query }) => {
      // A single atomic append, from any process, so that no second execution goes unnoticed.
      appendFileSync(ledger, `${query.id}\n`)
      if (query.ms !== undefined) await sleep(Number(query.ms))
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
