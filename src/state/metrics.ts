import type { FastifyInstance } from 'fastify'
import { promClient } from '../base/prom-client.ts'

/**
 * Exposes plain counters as one metric. Its label has the names in `counts` as values, a fixed set. Incrementing a field costs
 * less than finding a counter by its labels. Without the metrics plugin this does nothing.
 */
export function expose(
  app: FastifyInstance,
  name: string,
  help: string,
  label: string,
  counts: Readonly<Record<string, number>>,
): void {
  if (!app.hasDecorator('metrics')) return
  const { Counter } = promClient()
  new Counter({
    name,
    help,
    labelNames: [label],
    registers: [app.metrics],
    collect() {
      this.reset()
      for (const [value, count] of Object.entries(counts)) this.inc({ [label]: value }, count)
    },
  })
}

/** Exposes a gauge that is read at each scrape. Without the metrics plugin this does nothing. */
export function exposeGauge(app: FastifyInstance, name: string, help: string, read: () => number): void {
  if (!app.hasDecorator('metrics')) return
  const { Gauge } = promClient()
  new Gauge({
    name,
    help,
    registers: [app.metrics],
    collect() {
      this.set(read())
    },
  })
}
