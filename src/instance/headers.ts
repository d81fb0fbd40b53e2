import type { FastifyFleet, FastifyPluginAsync } from 'fastify'
import { ensure } from '../base/ensure.ts'
import { either, type OptionsOf, object, oneOf, resolveOptions, shape } from '../base/options.ts'
import { fleetPlugin } from './compat/index.ts'
import { identity } from './identity.ts'
import { operators } from './operators/index.ts'
import { staticHeaders } from './static-headers.ts'

/** Default names of the response headers that describe the instance. */
export const headerNames = {
  instanceId: 'X-Instance-Id',
  servedBy: 'X-Served-By',
  responseTime: 'X-Response-Time',
  sessionShared: 'X-Session-Shared',
  ready: 'X-Load-Balancer-Ready',
  stateless: 'X-Stateless',
  requestId: 'X-Request-Id',
} as const satisfies Record<string, string>

const nameOrOff = either(
  oneOf(false),
  shape<string>(
    'a header name (RFC 9110, section 5.1)',
    (value) => typeof value === 'string' && /^[\w!#$%&'*+.^`|~-]+$/.test(value),
  ),
)

/** @internal */
export const headersOptions = {
  /** Recipients of the instance's id, host and process id; `internal` means operators. */
  expose: oneOf('none', 'internal', 'all').default('all'),
  /** Renames a header, or disables it with `false`. */
  names: object({
    /** Id of the instance that responded. */
    instanceId: nameOrOff.default(headerNames.instanceId),
    /** Host and process id. */
    servedBy: nameOrOff.default(headerNames.servedBy),
    /** Time from the first byte of the request to the first byte of the response, e.g. `1.2ms`. */
    responseTime: nameOrOff.default(headerNames.responseTime),
    /** `true` if every instance can read the sessions. */
    sessionShared: nameOrOff.default(headerNames.sessionShared),
    /** Whether `/ready` responds 200. */
    ready: nameOrOff.default(headerNames.ready),
    /** `true` if this process keeps no state. */
    stateless: nameOrOff.default(headerNames.stateless),
    /** Id of the request, as in the log. */
    requestId: nameOrOff.default(headerNames.requestId),
  }).default({}),
}
export type HeadersOptions = OptionsOf<typeof headersOptions>

/** Times below 100 ms as text; formatting costs more than a lookup. */
const tenths: string[] = []

function milliseconds(ms: number): string {
  const tenth = Math.round(ms * 10)
  if (tenth >= 1_000) return `${ms.toFixed(1)}ms`
  tenths[tenth] ??= `${(tenth / 10).toFixed(1)}ms`
  return tenths[tenth]
}

/** Age up to which the value of `X-Load-Balancer-Ready` is reused, because evaluating all checks has a cost, ms. */
const readyForMs = 5

/** Reads the value of `X-Load-Balancer-Ready`. */
function readyText(fleet: FastifyFleet): () => string {
  let readAt = Number.NEGATIVE_INFINITY
  let readIn: FastifyFleet['state'] | undefined
  let text = 'false'
  return () => {
    const { state } = fleet
    const now = performance.now()
    if (state !== readIn || now - readAt > readyForMs) {
      readAt = now
      readIn = state
      text = String(fleet.ready ?? state === 'serving')
    }
    return text
  }
}

const plugin: FastifyPluginAsync<HeadersOptions> = async (app, given) => {
  await ensure(app, identity, operators, staticHeaders)
  const options = resolveOptions('headers', headersOptions, given)
  const { expose, names } = options
  const { fleet, staticHeaders: fixed } = app
  fleet.configure('headers', options)
  const lower = (name: string | false): string | undefined => (name ? name.toLowerCase() : undefined)
  const [ready, requestId, responseTime] = [lower(names.ready), lower(names.requestId), lower(names.responseTime)]
  const identifying: [string, string][] = []
  if (names.instanceId) identifying.push([names.instanceId, fleet.instance.id])
  if (names.servedBy) identifying.push([names.servedBy, `${fleet.instance.host}:${fleet.instance.pid}`])

  /** Headers that change rarely or never. */
  const setFixed = (): void => {
    if (expose === 'all') for (const [name, value] of identifying) fixed.set(name, value)
    if (names.sessionShared) fixed.set(names.sessionShared, String(fleet.facts.sessionStore === 'redis'))
    if (names.stateless) fixed.set(names.stateless, String(fleet.stateless))
  }
  setFixed()
  // Plugins that are registered later report where they keep their state.
  fleet.onDescribe(setFixed)
  const readReady = readyText(fleet)
  if (ready !== undefined) fixed.set(ready, 'false')

  app.addHook('onSend', (request, reply, payload, done) => {
    const elapsed = reply.elapsedTime
    // A reply that was sent by an earlier hook has no static headers yet.
    if (!fixed.isApplied(reply)) fixed.apply(reply)
    if (requestId !== undefined) reply.header(requestId, request.id)
    if (ready !== undefined) fixed.update(reply, ready, readReady())
    if (responseTime !== undefined) reply.header(responseTime, milliseconds(elapsed))
    if (expose === 'internal' && app.isOperator(request)) {
      for (const [name, value] of identifying) reply.header(name, value)
    }
    // Timings also help an attacker, so they are sent only on request.
    if (request.headers['x-server-timing'] !== undefined) {
      reply.header('Server-Timing', `app;dur=${elapsed.toFixed(1)}`)
    }
    done(null, payload)
  })
  // Without a logger or a hook of this kind, Fastify measures no time, and `reply.elapsedTime` is 0.
  app.addHook('onResponse', (_request, _reply, done) => done())
}

/** Sends headers that describe the instance with every response. */
export const headers: FastifyPluginAsync<HeadersOptions> = fleetPlugin('headers', plugin)
export default headers
