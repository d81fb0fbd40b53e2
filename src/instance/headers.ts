import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { either, object, oneOf, resolveOptions, type Shape, type Shapes } from '../base/options.ts'
import { identity } from './identity.ts'
import { operators } from './operators.ts'

/** Response headers and their default names; what an instance says of itself with every answer. */
export const headerNames = {
  /** Which instance answered. */
  instanceId: 'X-Instance-Id',
  /** Host and process id: where to look for it. */
  servedBy: 'X-Served-By',
  /** From the first byte of the request to the first byte of the answer, e.g. `1.2ms`. */
  responseTime: 'X-Response-Time',
  /** `true` when any instance can read the sessions. */
  sessionShared: 'X-Session-Shared',
  /** What `/ready` would say. */
  ready: 'X-Load-Balancer-Ready',
  /** `true` when no state lives in this process. */
  stateless: 'X-Stateless',
  requestId: 'X-Request-Id',
} as const satisfies Record<string, string>

type HeaderName = keyof typeof headerNames

export interface HeadersOptions {
  /** Who sees the headers that identify an instance, `X-Instance-Id` and `X-Served-By`; `internal`: operators. @default 'all' */
  expose?: 'none' | 'internal' | 'all'
  /** Renames a header, or switches it off with `false`. @default the names in {@link headerNames} */
  names?: Partial<Record<HeaderName, string | false>>
}

const headerName: Shape<string> = {
  expects: 'a header name (RFC 9110, section 5.1)',
  accepts: (value): value is string => typeof value === 'string' && /^[\w!#$%&'*+.^`|~-]+$/.test(value),
}
const shapes: Shapes = {
  expose: oneOf('none', 'internal', 'all'),
  names: object(Object.fromEntries(Object.keys(headerNames).map((key) => [key, either(oneOf(false), headerName)]))),
}
const defaults = { expose: 'all', names: headerNames } satisfies HeadersOptions

const plugin: FastifyPluginAsync<HeadersOptions> = async (app, given) => {
  if (!app.hasDecorator('fleet')) await app.register(identity)
  if (!app.hasDecorator('isOperator')) await app.register(operators)
  const options = resolveOptions<Required<HeadersOptions>>('headers', shapes, defaults, given)
  const { expose, names } = options
  const { fleet } = app
  fleet.configure('headers', options)
  const identifying: [string, string][] = []
  if (names.instanceId) identifying.push([names.instanceId, fleet.instance.id])
  if (names.servedBy) identifying.push([names.servedBy, `${fleet.instance.host}:${fleet.instance.pid}`])
  const identifies = (request: FastifyRequest): boolean =>
    expose === 'all' || (expose === 'internal' && app.isOperator(request))

  app.addHook('onSend', (request, reply, payload, done) => {
    if (identifies(request)) for (const [name, value] of identifying) reply.header(name, value)
    if (names.requestId) reply.header(names.requestId, request.id)
    if (names.sessionShared) reply.header(names.sessionShared, String(fleet.facts.sessionStore === 'redis'))
    if (names.ready) reply.header(names.ready, String(fleet.ready ?? fleet.state === 'serving'))
    if (names.stateless) reply.header(names.stateless, String(fleet.stateless))
    const elapsed = reply.elapsedTime.toFixed(1)
    if (names.responseTime) reply.header(names.responseTime, `${elapsed}ms`)
    // Timings help an attacker as well; they are given to whoever asks for them by name.
    if (request.headers['x-server-timing'] !== undefined) reply.header('Server-Timing', `app;dur=${elapsed}`)
    done(null, payload)
  })
}

/** Sends the identity headers with every response. */
export const headers: FastifyPluginAsync<HeadersOptions> = fp(plugin, { name: 'fleet-headers', fastify: '5.x' })
export default headers
