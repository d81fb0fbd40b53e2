import { collectDefaultMetrics, type Gauge, type Registry } from 'prom-client'

/** How often the event loop's lag is looked at, ms. Each look wakes the process. */
const everyMs = 50
/** Those of prom-client's figures that are times between two looks. */
const times = ['min', 'max', 'mean', 'p50', 'p90', 'p99'].map((figure) => `nodejs_eventloop_lag_${figure}_seconds`)

/**
 * prom-client's metrics of the process, heap, garbage collection and event loop. By itself it looks at the lag of the loop
 * a hundred times per second, which is most of what an idle instance does, and tells the time between two looks; here it
 * looks twenty times, and what is told is how late a look was.
 */
export function collectRuntime(registry: Registry): void {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: everyMs })
  for (const name of times) {
    const gauge = registry.getSingleMetric(name) as Gauge | undefined
    // Other runtimes may not have it.
    if (!gauge) continue
    const set = gauge.set.bind(gauge) as (labels: object, seconds: number) => void
    gauge.set = ((labels: object, seconds: number) =>
      set(labels, Math.max(0, seconds - everyMs / 1_000))) as Gauge['set']
  }
}
