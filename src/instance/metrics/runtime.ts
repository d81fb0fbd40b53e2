import { collectDefaultMetrics, type Gauge, type Registry } from 'prom-client'

/** Interval at which the event loop's lag is sampled, ms. Each sample wakes the process. */
const everyMs = 50
/** prom-client's gauges whose values include the sampling interval. */
const times = ['min', 'max', 'mean', 'p50', 'p90', 'p99'].map((figure) => `nodejs_eventloop_lag_${figure}_seconds`)

/**
 * prom-client's metrics of the process, heap, garbage collection and event loop. By default it samples the event loop's
 * lag a hundred times per second, which is most of the work of an idle instance, and reports the time between two
 * samples. Here it samples twenty times per second and reports the delay of a sample.
 */
export function collectRuntime(registry: Registry): void {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: everyMs })
  // Of several workers, the slowest one counts. prom-client would report the average of their percentiles.
  for (const name of ['nodejs_eventloop_lag_seconds', 'nodejs_eventloop_lag_stddev_seconds', ...times.slice(1)])
    Object.assign(registry.getSingleMetric(name) ?? {}, { aggregator: 'max' })
  for (const name of times) {
    const gauge = registry.getSingleMetric(name) as Gauge | undefined
    // Other runtimes may lack the gauge.
    if (!gauge) continue
    const set = gauge.set.bind(gauge) as (labels: object, seconds: number) => void
    gauge.set = ((labels: object, seconds: number) =>
      set(labels, Math.max(0, seconds - everyMs / 1_000))) as Gauge['set']
  }
}
