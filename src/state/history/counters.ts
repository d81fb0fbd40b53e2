import { bucketCount, bucketOf } from '../../instance/metrics/latency-scale.ts'
import { addCount, addCounts, type Counts, maxRoutes } from './store.ts'

/** What is counted of a request. */
interface Counted {
  readonly method: string
  readonly routeOptions: { readonly url?: string | undefined; readonly config: object }
}

/** Counts of one route since they were last taken. */
class RouteCounter {
  readonly name: string
  requests = 0
  clientErrors = 0
  serverErrors = 0
  readonly latency = new Uint32Array(bucketCount)

  constructor(name: string) {
    this.name = name
  }

  /** Adds the counts to `counts`. `r` requests, `c` and `s` responses 4xx and 5xx, numbers: response times by bucket. */
  addTo(counts: Counts): void {
    addCount(counts, 'r', this.requests)
    addCount(counts, 'c', this.clientErrors)
    addCount(counts, 's', this.serverErrors)
    for (let i = 0; i < bucketCount; i++) addCount(counts, String(i), this.latency[i] as number)
  }

  clear(): void {
    this.requests = this.clientErrors = this.serverErrors = 0
    this.latency.fill(0)
  }
}

const maxNameLength = 200

/** Counts responses by route. An observation is two lookups and a few increments. */
export class ResponseCounters {
  readonly #all: RouteCounter[] = []
  /** By the configuration of a route, which is an object of its own, then by method. */
  readonly #byRoute = new WeakMap<object, Map<string, RouteCounter>>()
  /** Requests of the current step, on top of those that {@link takeRoutes} has taken away. */
  readonly #step = new RouteCounter('')

  observe(request: Counted, status: number, ms: number): void {
    const { config } = request.routeOptions
    const route = this.#byRoute.get(config)?.get(request.method) ?? this.#add(request)
    const bucket = bucketOf(ms)
    const step = this.#step
    route.requests++
    step.requests++
    route.latency[bucket] = (route.latency[bucket] as number) + 1
    step.latency[bucket] = (step.latency[bucket] as number) + 1
    if (status < 400) return
    if (status < 500) {
      route.clientErrors++
      step.clientErrors++
    } else {
      route.serverErrors++
      step.serverErrors++
    }
  }

  /** The counts of all routes since the last call. */
  takeStep(): Counts {
    const counts: Counts = new Map()
    this.#step.addTo(counts)
    this.#step.clear()
    return counts
  }

  /** The counts since the last call by route, of at most {@link maxRoutes} routes. All others are added under ''. */
  takeRoutes(): Map<string, Counts> {
    const used = this.#all.filter(({ requests }) => requests > 0).sort((a, b) => b.requests - a.requests)
    const routes = new Map<string, Counts>()
    for (const route of used) {
      // Each scope has its own route for unknown paths, so several may have one name.
      const name = routes.has(route.name) || routes.size < maxRoutes ? route.name : ''
      const counts = routes.get(name) ?? new Map<string, number>()
      const own: Counts = new Map()
      route.addTo(own)
      if (name === '') counts.set('m', (counts.get('m') ?? 0) + 1)
      addCounts(counts, own)
      routes.set(name, counts)
      route.clear()
    }
    return routes
  }

  #add({ method, routeOptions: { url = 'unknown', config } }: Counted): RouteCounter {
    const route = new RouteCounter(`${method} ${url}`.slice(0, maxNameLength))
    this.#all.push(route)
    const methods = this.#byRoute.get(config) ?? new Map<string, RouteCounter>()
    this.#byRoute.set(config, methods)
    methods.set(method, route)
    return route
  }
}
