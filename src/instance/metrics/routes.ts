import type { FastifyRequest } from 'fastify'
import type { Histogram, Registry } from 'prom-client'

type Values = Awaited<ReturnType<Histogram['get']>>['values']

/** Response times of one route, method and status. */
interface Series {
  readonly labels: { readonly method: string; readonly route: string; readonly status_code: string }
  /** Requests per bucket, not cumulative; the last bucket is +Inf. */
  readonly counts: Float64Array
  sum: number
}

/**
 * Response times by route, as a prom-client metric. prom-client hashes the labels of every observation, even through a
 * bound child. Here a route's status selects its series, and an observation is an increment. Routes are labelled by
 * pattern, so the number of series is bounded.
 */
export class RouteTimes {
  readonly name = 'http_request_duration_seconds'
  readonly help = 'Time from request to response by route pattern'
  readonly type = 'histogram'
  readonly aggregator = 'sum'
  readonly #bounds: Float64Array
  #series: Series[] = []
  /** By route, then by method and status. */
  #byRoute = new WeakMap<object, Map<string, Series[]>>()

  /** @param bounds upper bounds of the buckets in seconds */
  constructor(bounds: readonly number[]) {
    this.#bounds = Float64Array.from(bounds).sort()
  }

  register(registry: Registry): void {
    registry.registerMetric(this as unknown as Histogram)
  }

  observe(request: FastifyRequest, status: number, ms: number): void {
    const route = request.routeOptions.config
    const methods = this.#byRoute.get(route)
    const series = methods?.get(request.method)?.[status] ?? this.#add(route, request, status)
    const seconds = ms / 1_000
    const bounds = this.#bounds
    let bucket = 0
    while (bucket < bounds.length && seconds > (bounds[bucket] as number)) bucket++
    series.counts[bucket] = (series.counts[bucket] as number) + 1
    series.sum += seconds
  }

  /** Called by prom-client, like {@link Histogram.get}. */
  async get(): Promise<object> {
    return this.#export((labels, le) => ({ labels: le === undefined ? labels : { le, ...labels } }))
  }

  reset(): void {
    this.#series = []
    this.#byRoute = new WeakMap()
  }

  #add(route: object, { method, routeOptions }: FastifyRequest, status: number): Series {
    const series = {
      labels: { method, route: routeOptions.url ?? 'unknown', status_code: String(status) },
      counts: new Float64Array(this.#bounds.length + 1),
      sum: 0,
    }
    // Several routes share a series: each scope has its own route for unknown paths.
    const same = this.#series.find(({ labels }) =>
      Object.entries(series.labels).every(([k, v]) => labels[k as 'route'] === v),
    )
    if (!same) this.#series.push(series)
    const methods = this.#byRoute.get(route) ?? new Map<string, Series[]>()
    this.#byRoute.set(route, methods)
    const statuses = methods.get(method) ?? []
    methods.set(method, statuses)
    statuses[status] = same ?? series
    return same ?? series
  }

  #export(shape: (labels: Series['labels'], le?: number | '+Inf') => object): object {
    const values: object[] = []
    for (const { labels, counts, sum } of this.#series) {
      let total = 0
      counts.forEach((count, i) => {
        total += count
        const le = this.#bounds[i] ?? '+Inf'
        values.push({ ...shape(labels, le), value: total, metricName: `${this.name}_bucket` })
      })
      values.push({ ...shape(labels), value: sum, metricName: `${this.name}_sum` })
      values.push({ ...shape(labels), value: total, metricName: `${this.name}_count` })
    }
    const { name, help, type, aggregator } = this
    return { name, help, type, aggregator, values: values as unknown as Values }
  }
}
