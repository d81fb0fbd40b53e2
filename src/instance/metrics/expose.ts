import type { FastifyInstance } from 'fastify'
import type { Aggregator } from 'prom-client'
import { promClient } from '../../base/prom-client.ts'

/**
 * Registers a counter with one label, whose values are the keys of `counts`. The counts are plain fields, because incrementing
 * them is cheaper than a label lookup per event. Does nothing without the metrics plugin.
 */
export function expose(
  app: FastifyInstance,
  name: string,
  help: string,
  label: string,
  counts: Readonly<Record<string, number>>,
): void {
  if (!app.hasPlugin('fleet-metrics')) return
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

/** Registers a counter without labels that is read on each scrape. Does nothing without the metrics plugin. */
export function exposeCount(app: FastifyInstance, name: string, help: string, read: () => number): void {
  if (!app.hasPlugin('fleet-metrics')) return
  const { Counter } = promClient()
  new Counter({
    name,
    help,
    registers: [app.metrics],
    collect() {
      this.reset()
      this.inc(read())
    },
  })
}

/**
 * Registers a gauge that is read on each scrape. Does nothing without the metrics plugin.
 *
 * @param aggregator how the values of several workers are combined
 */
export function exposeGauge(
  app: FastifyInstance,
  name: string,
  help: string,
  read: () => number,
  aggregator: Aggregator = 'sum',
): void {
  if (!app.hasPlugin('fleet-metrics')) return
  const { Gauge } = promClient()
  new Gauge({
    name,
    help,
    aggregator,
    registers: [app.metrics],
    collect() {
      this.set(read())
    },
  })
}
