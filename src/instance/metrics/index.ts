import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { type Aggregator, Gauge, Registry } from 'prom-client'
import { bool, either, list, number, oneOf, path, resolveOptions, type Shapes } from '../../base/options.ts'
import { identity } from '../identity.ts'
import { operators, operatorsOnly } from '../operators/index.ts'
import { operatorsConfig } from '../own-routes.ts'
import { load } from './load.ts'
import { RouteTimes } from './routes.ts'
import { collectRuntime } from './runtime.ts'

export interface MetricsOptions {
  /** `false` switches the endpoint off. @default '/metrics' */
  path?: string | false
  /** Upper bounds of the response time histogram, in seconds. @default 5 ms to 10 s, as prom-client has them */
  buckets?: number[]
  /** Process, heap, garbage collection and event loop. @default true */
  runtime?: boolean
}

const shapes: Shapes = { path: either(oneOf(false), path), buckets: list(number(0, 3_600)), runtime: bool }
const defaults = {
  path: '/metrics',
  buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  runtime: true,
} satisfies MetricsOptions

declare module 'fastify' {
  interface FastifyInstance {
    /** prom-client registry of this app; add your own metrics with `registers: [app.metrics]`. */
    metrics: Registry
    /** What `/metrics` answers with; a cluster worker replaces it by the figures of the whole group. */
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

/** A registry's text in either format. The format belongs to a registry, so another one shares its metrics. */
export function scrape(registry: Registry, format: MetricsFormat): Promise<string> {
  if (format === 'prometheus') return registry.metrics()
  const other = new Registry()
  other.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never)
  for (const metric of registry.getMetricsAsArray()) other.registerMetric(metric as unknown as Gauge)
  return other.metrics()
}

function describeInstance(app: FastifyInstance, registry: Registry): void {
  const { id, version, color, region = '', zone = '' } = app.fleet.instance
  const info = new Gauge({
    name: 'fleet_instance_info',
    help: 'Which instance this is; always 1',
    labelNames: ['fleet', 'instance', 'version', 'color', 'region', 'zone'],
    registers: [registry],
  })
  info.set({ fleet: app.fleet.name, instance: id, version, color, region, zone }, 1)
  // A group of workers answers for all of them: what a gauge means decides how theirs are put together.
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
  gauge('fleet_ready', 'Whether the instance takes traffic', 'min', () => (app.fleet.ready === false ? 0 : 1))
  gauge('fleet_draining', 'Whether the instance is draining', 'max', () => (app.fleet.state === 'draining' ? 1 : 0))
  gauge('fleet_peers', 'Instances this one knows, itself included', 'max', () => app.fleet.peers().length)
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
  if (!app.hasDecorator('fleet')) await app.register(identity)
  if (!app.hasDecorator('load')) await app.register(load)
  if (!app.hasDecorator('isOperator')) await app.register(operators)
  const options = resolveOptions<Required<MetricsOptions>>('metrics', shapes, defaults, given)
  app.fleet.configure('metrics', options)
  const registry = new Registry()
  app.decorate('metrics', registry)
  app.decorate('metricsSource', { text: (format: MetricsFormat) => scrape(registry, format) })
  if (options.runtime) collectRuntime(registry)
  describeInstance(app, registry)
  const times = new RouteTimes(options.buckets)
  times.register(registry)
  app.addHook('onResponse', (request, reply, done) => {
    times.observe(request, reply.statusCode, reply.elapsedTime)
    done()
  })
  if (app.hasDecorator('overload')) {
    app.overload.onRefused((refused, ms) => times.observe(refused as FastifyRequest, 503, ms))
  }

  if (!options.path) return
  app.operators.signIn?.addPath(app.prefix + options.path)
  const config = operatorsConfig
  app.get(options.path, { logLevel: 'silent', config, onRequest: operatorsOnly(app) }, async (request, reply) => {
    const format = request.headers.accept?.includes('application/openmetrics-text') ? 'openmetrics' : 'prometheus'
    reply.header('Cache-Control', 'no-store').type(contentTypes[format])
    return await app.metricsSource.text(format)
  })
}

/** Prometheus metrics of the app and its process. */
export const metrics: FastifyPluginAsync<MetricsOptions> = fp(plugin, { name: 'fleet-metrics', fastify: '5.x' })
export default metrics
