// Prometheus metrics of one instance: `app.metrics` is the prom-client registry, `/metrics` serves it to operators.
//   routes.ts   response times by route, method and status
//   runtime.ts  the process: heap, garbage collection, lag of the event loop
//   load.ts     `app.load`: rate, errors and latency of the last ten seconds, for probes and operators
//   expose.ts   how other modules add their counters and gauges
// In a group of workers, `app.metricsSource` is replaced (src/host/worker.ts), so that one scrape covers all of them.
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import { type Aggregator, Gauge, type Metric, Registry } from 'prom-client'
import { ensure } from '../../base/ensure.ts'
import { bool, either, list, number, type OptionsOf, oneOf, path, resolveOptions } from '../../base/options.ts'
import { fleetPlugin, guestOf, hasOwnRoute } from '../compat/index.ts'
import { identity } from '../identity.ts'
import { operators, operatorsOnly } from '../operators/index.ts'
import { operatorsConfig, ownRoute } from '../own-routes.ts'
import { load } from './load.ts'
import { RouteTimes } from './routes.ts'
import { collectRuntime } from './runtime.ts'

/** @internal */
export const metricsOptions = {
  /** Path of the endpoint; `false` disables it. */
  path: either(oneOf(false), path).default('/metrics'),
  /** Upper bounds of the response time histogram, in seconds. */
  buckets: list(number(0, 3_600)).default([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]),
  /** Metrics of process, heap, garbage collection and event loop. */
  runtime: bool.default(true),
}
export type MetricsOptions = OptionsOf<typeof metricsOptions>

declare module 'fastify' {
  interface FastifyInstance {
    /** prom-client registry of this app; add your own metrics with `registers: [app.metrics]`. */
    metrics: Registry
    /** Source of the response of `/metrics`. A cluster worker replaces it with the metrics of all workers. */
    metricsSource: MetricsSource
  }
}

export interface MetricsSource {
  text(format: MetricsFormat): Promise<string>
}
export type MetricsFormat = 'prometheus' | 'openmetrics'

const contentTypes: Readonly<Record<MetricsFormat, string>> = {
  prometheus: Registry.PROMETHEUS_CONTENT_TYPE,
  openmetrics: Registry.OPENMETRICS_CONTENT_TYPE,
}

/** The registry of an app. */
class AppRegistry extends Registry {
  readonly #app: FastifyInstance

  constructor(app: FastifyInstance) {
    super()
    this.#app = app
  }

  /** @throws FLEET_ERR_PLUGIN_CONFLICT if a plugin of fleet is registered in two scopes */
  override registerMetric<T extends string>(metric: Metric<T>): void {
    const { name } = metric as unknown as { readonly name: string }
    const conflict = this.getSingleMetric(name) && guestOf(this.#app)?.secondScope(`the metric ${name}`)
    if (conflict) throw conflict
    super.registerMetric(metric)
  }
}

/** A registry's metrics in either format. A format belongs to a registry, so OpenMetrics needs a second registry. */
export function scrape(registry: Registry, format: MetricsFormat): Promise<string> {
  if (format === 'prometheus') return registry.metrics()
  const other = new Registry()
  other.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never)
  for (const metric of registry.getMetricsAsArray()) other.registerMetric(renamable(metric as unknown as Printable))
  return other.metrics()
}

type Printed = Awaited<ReturnType<Gauge['get']>>
type Printable = Gauge & { readonly type: unknown }

/** A metric with a name of its own: for OpenMetrics, prom-client removes `_total` from the name of a counter for good. */
function renamable(metric: Printable): Gauge {
  const copy = {
    name: (metric as unknown as Printed).name,
    type: metric.type,
    get: async () => ({ ...(await metric.get()), name: copy.name }),
  }
  return copy as unknown as Gauge
}

function addInstanceMetrics(app: FastifyInstance, registry: Registry): void {
  const { id, version, color, pool, region = '', zone = '' } = app.fleet.instance
  const info = new Gauge({
    name: 'fleet_instance_info',
    help: 'Identity of the instance; always 1',
    labelNames: ['fleet', 'instance', 'version', 'color', 'pool', 'region', 'zone'],
    registers: [registry],
  })
  info.set({ fleet: app.fleet.name, instance: id, version, color, pool, region, zone }, 1)
  // A scrape of one worker returns the metrics of all, so each gauge declares how the workers' values are combined.
  const gauge = (name: string, help: string, aggregator: Aggregator, read: () => number): void => {
    new Gauge({
      name,
      help,
      aggregator,
      registers: [registry],
      collect() {
        this.set(read())
      },
    })
  }
  gauge('fleet_ready', 'Whether the instance is ready for traffic', 'min', () => (app.fleet.ready === false ? 0 : 1))
  gauge('fleet_draining', 'Whether the instance is draining', 'max', () => (app.fleet.state === 'draining' ? 1 : 0))
  gauge('fleet_peers', 'Known instances of the fleet, including this one', 'max', () => app.fleet.peers().length)
  gauge(
    'fleet_event_loop_utilization',
    'Share of the last second in which the event loop was busy',
    'average',
    () => app.load.eventLoopUtilization,
  )
  const checks = new Gauge({
    name: 'fleet_check_up',
    help: 'Whether a health check passes',
    labelNames: ['check', 'critical'],
    aggregator: 'min',
    registers: [registry],
    collect() {
      const reports = app.hasDecorator('health') ? app.health.reports : {}
      for (const [check, { status, critical }] of Object.entries(reports)) {
        checks.set({ check, critical: String(critical) }, status === 'up' ? 1 : 0)
      }
    },
  })
}

const plugin: FastifyPluginAsync<MetricsOptions> = async (app, given) => {
  await ensure(app, identity, load, operators)
  const options = resolveOptions('metrics', metricsOptions, given)
  app.fleet.configure('metrics', options)
  const registry = new AppRegistry(app)
  app.decorate('metrics', registry)
  app.decorate('metricsSource', { text: (format: MetricsFormat) => scrape(registry, format) })
  if (options.runtime) collectRuntime(registry)
  addInstanceMetrics(app, registry)
  const times = new RouteTimes(options.buckets)
  times.register(registry)
  app.addHook('onResponse', (request, reply, done) => {
    times.observe(request, reply.statusCode, reply.elapsedTime)
    done()
  })
  if (app.hasPlugin('fleet-overload')) {
    app.overload.onRefused((request, ms) => times.observe(request as FastifyRequest, 503, ms))
  }

  if (!options.path || hasOwnRoute(app, 'GET', options.path)) return
  app.operators.signIn?.addPath(app.prefix + options.path)
  const config = operatorsConfig
  app.get(
    options.path,
    {
      ...ownRoute({ summary: 'Metrics for Prometheus and OpenMetrics', tags: ['metrics'] }),
      logLevel: 'silent',
      config,
      onRequest: operatorsOnly(app),
    },
    async (request, reply) => {
      const format = request.headers.accept?.includes('application/openmetrics-text') ? 'openmetrics' : 'prometheus'
      reply.header('Cache-Control', 'no-store').type(contentTypes[format])
      return await app.metricsSource.text(format)
    },
  )
}

/** Prometheus metrics of the app and its process. */
export const metrics: FastifyPluginAsync<MetricsOptions> = fleetPlugin('metrics', plugin)
export default metrics
