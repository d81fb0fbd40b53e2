import type { FastifyInstance, FastifyReply, FastifyRequest, FastifySchema } from 'fastify'
import type { Resolved } from '../../base/options.ts'
import { hasOwnRoute } from '../compat/index.ts'
import { operatorsOnly } from '../operators/index.ts'
import { usesManagementListener } from '../operators/listener.ts'
import { operatorsConfig, ownRoute, probeConfig } from '../own-routes.ts'
import { diskSpace, memoryUse } from './checks.ts'
import type { healthOptions } from './options.ts'
import { aliveSchema, detailedSchema, healthSchema, readySchema } from './schemas.ts'

/** Registers the endpoints. Probes are frequent, so they are not logged, rate limited or cached. */
export function probes(app: FastifyInstance, { paths, disk, maxStuckMs }: Resolved<typeof healthOptions>): void {
  const { fleet, health } = app
  const route = (schema: FastifySchema) => ({ ...ownRoute(schema), logLevel: 'silent', config: probeConfig }) as const
  const respond = (reply: FastifyReply, ok: boolean, body: object): FastifyReply =>
    reply
      .code(ok ? 200 : 503)
      .header('Cache-Control', 'no-store')
      .send(body)

  const live = (_request: unknown, reply: FastifyReply): FastifyReply => {
    const alive = fleet.fatal === undefined && app.load.eventLoopDelayMs < maxStuckMs
    return respond(reply, alive, { alive, instanceId: fleet.instance.id, uptime: uptime(), timestamp: now() })
  }
  const serves = (path: string | false): path is string => path !== false && !hasOwnRoute(app, 'GET', path)
  if (serves(paths.live)) app.get(paths.live, route(aliveSchema), live)
  if (serves(paths.alive)) app.get(paths.alive, route(aliveSchema), live)

  if (serves(paths.ready)) {
    app.get(paths.ready, route(readySchema), (request, reply) => {
      const { ready, reason } = health.readiness
      if (request.headers['x-fleet-load'] !== undefined) reply.header('X-Fleet-Load', loadText(app, request))
      const { id: instanceId, version } = fleet.instance
      return respond(reply, ready, { ready, timestamp: now(), instanceId, version, loadBalancerReady: ready, reason })
    })
  }

  const summary = () => {
    const { status } = health
    const { id: instanceId, color, version } = fleet.instance
    return { status, success: status !== 'unhealthy', instanceId, color, version, uptime: uptime(), timestamp: now() }
  }
  if (serves(paths.health)) {
    app.get(paths.health, route(healthSchema), (_request, reply) => {
      const body = summary()
      return respond(reply, body.success, body)
    })
  }
  if (serves(paths.detailed)) {
    const onRequest = operatorsOnly(app)
    app.operators.signIn?.addPath(app.prefix + paths.detailed)
    const config = operatorsConfig
    app.get(paths.detailed, { ...route(detailedSchema), config, onRequest }, async (_request, reply) => {
      const body = summary()
      const space = await diskSpace(disk ? disk.path : '/').catch(() => null)
      const eventLoop = { delayMs: app.load.eventLoopDelayMs, utilization: app.load.eventLoopUtilization }
      return respond(reply, body.success, {
        ...body,
        checks: health.reports,
        memory: memoryUse(),
        eventLoop,
        disk: space,
      })
    })
  }
}

/**
 * Load for a balancer that asks with `X-Fleet-Load`: requests waiting for a response, without this one, and the median
 * response time of the last 10 s in ms, as `inflight=12, latency=3.4` (a dictionary of RFC 8941).
 */
function loadText({ fleet, load }: FastifyInstance, { raw }: FastifyRequest): string {
  // Requests on the port for operators are not counted.
  const own = usesManagementListener(raw) ? 0 : 1
  const inflight = Math.max(0, (fleet.flow?.waiting ?? 0) - own)
  return `inflight=${inflight}, latency=${load.read().p50}`
}

const now = (): string => new Date().toISOString()
const uptime = (): number => Math.round(process.uptime() * 10) / 10
