import type { FastifyRequest } from 'fastify'
import type { Histogram, Registry } from 'prom-client'
import { routeOf } from '../../base/internals/fastify.ts'

type Values = Awaited<ReturnType<Histogram['get']>>['values']

/** What one route answered with one status: as many requests in each bucket, and the sum of their times. */
interface Series {
  readonly labels: { readonly method: string; readonly route: string; readonly status_code: string }
  /** One more than there are bounds: the last is +Inf. Not cumulative. */
  readonly counts: Float64Array
  sum: number
}

/**
 * Response times by route, as a prom-client metric. prom-client hashes the labels of every observation, also through a
 * bound child; here a route finds its own series by its status, and an observation is an increment. Routes are
 * labelled by pattern, so that the number of series is bounded.
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
    const route = routeOf(request)
    const methods = this.#byRoute.get(route)
    const series = methods?.get(request.method)?.[status] ?? this.#add(route, request, status)
    const seconds = ms / 1_000
    const bounds = this.#bounds
    let bucket = 0
    while (bucket < bounds.length && seconds > (bounds[bucket] as number)) bucket++
    series.counts[bucket] = (series.counts[bucket] as number) + 1
    series.sum += seconds
  }

  /** What prom-client asks of a metric: {@link Histogram.get}. */
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
    // Several paths may lead to one series: all that are not found are one route for each scope.
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
      let seen = 0
      counts.forEach((count, i) => {
        seen += count
        const le = this.#bounds[i] ?? '+Inf'
        values.push({ ...shape(labels, le), value: seen, metricName: `${this.name}_bucket` })
      })
      values.push({ ...shape(labels), value: sum, metricName: `${this.name}_sum` })
      values.push({ ...shape(labels), value: seen, metricName: `${this.name}_count` })
    }
    const { name, help, type, aggregator } = this
    return { name, help, type, aggregator, values: values as unknown as Values }
  }
}
