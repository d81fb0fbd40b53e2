import type { FastifyInstance } from 'fastify'
import { promClient } from '../base/prom-client.ts'

/**
 * A counter with one label whose values are the names of `counts`, and so a closed set. They are counted in plain fields,
 * because that costs less than finding a counter by its labels. Nothing without the metrics plugin.
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

/** A gauge that is read when it is asked for. Nothing without the metrics plugin. */
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
