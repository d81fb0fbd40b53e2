import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { ensure } from '../base/ensure.ts'
import { either, type OptionsOf, oneOf, path, resolveOptions } from '../base/options.ts'
import { fleetPlugin } from './compat/index.ts'
import { effectiveConfiguration } from './effective.ts'
import { memoryUse } from './health/checks.ts'
import { health } from './health/index.ts'
import { boolean, checksSchema, memorySchema, nullable, number, object, string } from './health/schemas.ts'
import type { Command, Instance, Peer } from './identity.ts'
import { operatorsOnly } from './operators/index.ts'
import { acceptSmallJson, operatorsConfig, ownRoute } from './own-routes.ts'
import { redact } from './redact.ts'

/** @internal */
export const loadBalancerOptions = {
  /** Prefix of the operators' endpoints; `false` disables them. */
  path: either(oneOf(false), path).default('/api/v1/load-balancer'),
}
export type LoadBalancerOptions = OptionsOf<typeof loadBalancerOptions>

const open = { type: 'object', additionalProperties: true } as const

const peerSchema = object({
  id: string,
  host: string,
  pid: number,
  port: nullable('number'),
  version: string,
  color: string,
  pool: string,
  region: nullable('string'),
  zone: nullable('string'),
  weight: number,
  state: string,
  startedAt: string,
  lastSeen: string,
  rps: number,
  errorRate: number,
  p95: number,
  eventLoopUtilization: number,
  memory: number,
  failing: { type: 'array', items: string },
  degraded: { type: 'array', items: string },
  checks: { type: 'array', items: string },
})
const loadSchema = object({
  rps: number,
  errorRate: number,
  p50: number,
  p95: number,
  p99: number,
  eventLoopUtilization: number,
  totals: object({ requests: number, errors: number }),
})

/** With `null` for members that are not set, so that every response has the same ones. */
const placeOf = ({ pool, region, zone }: Instance): object => ({ pool, region: region ?? null, zone: zone ?? null })
const entryOf = (peer: Peer): object => ({ ...peer, port: peer.port ?? null, ...placeOf(peer) })

/** Totals of the fleet, and the worst p95, because percentiles of several instances cannot be added. */
function fleetFigures(peers: readonly Peer[]): { instances: number; serving: number; rps: number; p95: number } {
  return {
    instances: peers.length,
    serving: peers.filter((peer) => peer.state === 'serving').length,
    rps: Math.round(peers.reduce((sum, peer) => sum + peer.rps, 0) * 10) / 10,
    p95: peers.reduce((worst, peer) => Math.max(worst, peer.p95), 0),
  }
}

const plugin: FastifyPluginAsync<LoadBalancerOptions> = async (app, given) => {
  await ensure(app, health)
  const { path: prefix } = resolveOptions('loadBalancer', loadBalancerOptions, given)
  if (prefix !== false) await app.register(async (scope) => routes(scope), { prefix })
}

function routes(app: FastifyInstance): void {
  const { fleet, health } = app
  const route = (summary: string, response: object, more: object = {}): object => ({
    ...ownRoute({ summary, tags: ['load balancer'], response: { 200: response }, ...more }),
    config: operatorsConfig,
    onRequest: operatorsOnly(app),
  })
  app.operators.signIn?.addPath(app.prefix)
  acceptSmallJson(app)
  app.addHook('onSend', async (_request, reply) => void reply.header('Cache-Control', 'no-store'))

  app.get(
    '/health',
    route(
      'State and dependencies of this instance',
      object({
        status: string,
        timestamp: string,
        instanceId: string,
        responseTime: number,
        uptime: number,
        loadBalancer: object({
          ready: boolean,
          stateless: boolean,
          sessionStore: string,
          cacheStore: string,
          pool: string,
          region: nullable('string'),
          zone: nullable('string'),
        }),
        dependencies: { type: 'object', additionalProperties: string },
        resources: object({ memory: memorySchema }),
      }),
    ),
    async (_request, reply) => ({
      status: health.status,
      timestamp: new Date().toISOString(),
      instanceId: fleet.instance.id,
      responseTime: Math.round(reply.elapsedTime * 10) / 10,
      uptime: process.uptime(),
      loadBalancer: {
        ready: fleet.ready,
        stateless: fleet.stateless,
        sessionStore: fleet.facts.sessionStore ?? 'none',
        cacheStore: fleet.facts.cacheStore ?? 'none',
        ...placeOf(fleet.instance),
      },
      dependencies: Object.fromEntries(Object.entries(health.reports).map(([name, { status }]) => [name, status])),
      resources: { memory: memoryUse() },
    }),
  )
  app.post(
    '/health-check',
    route('Runs the checks now', object({ status: string, checks: checksSchema })),
    async () => ({ checks: await health.check(), status: health.status }),
  )
  app.get(
    '/instances',
    route(
      'Every live instance of the fleet',
      object({ fleet: string, answeredBy: string, instances: { type: 'array', items: peerSchema } }),
    ),
    async () => ({ fleet: fleet.name, answeredBy: fleet.instance.id, instances: (await fleet.survey()).map(entryOf) }),
  )
  app.get(
    '/metrics',
    route(
      'Figures of the last 10 s, of this instance and of the fleet',
      object({
        instance: loadSchema,
        fleet: object({ instances: number, serving: number, rps: number, p95: number }),
      }),
    ),
    async () => ({
      instance: { ...app.load.read(), totals: app.load.totals },
      fleet: fleetFigures(await fleet.survey()),
    }),
  )
  app.get('/config', route('Effective configuration, secrets redacted', open), async () => ({
    ...(redact(fleet.configuration) as object),
    effective: effectiveConfiguration(app),
  }))

  const command = (name: Command, summary: string): void => {
    app.post<{ Querystring: { instance?: string } }>(
      `/${name}`,
      route(summary, object({ instanceId: string, command: string, state: string }), {
        querystring: object({ instance: { type: 'string', minLength: 1, maxLength: 128 } }),
      }),
      async (request) => {
        const instanceId = request.query.instance ?? fleet.instance.id
        if (instanceId === fleet.instance.id) fleet[name]()
        else await fleet.command(instanceId, name)
        const state = instanceId === fleet.instance.id ? fleet.state : name === 'drain' ? 'draining' : 'serving'
        return { instanceId, command: name, state }
      },
    )
  }
  command('drain', 'Takes an instance out of rotation; it keeps serving')
  command('undrain', 'Returns an instance to rotation')
}

/** Operators' endpoints: state of an instance and its fleet, and commands that drain and undrain an instance. */
export const loadBalancer: FastifyPluginAsync<LoadBalancerOptions> = fleetPlugin('loadBalancer', plugin)
export default loadBalancer
