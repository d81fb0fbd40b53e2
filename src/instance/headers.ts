import type { FastifyFleet, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { ensure } from '../base/ensure.ts'
import { either, object, oneOf, resolveOptions, type Shape, type Shapes } from '../base/options.ts'
import { identity } from './identity.ts'
import { operators } from './operators/index.ts'
import { staticHeaders } from './static-headers.ts'

/** Response headers that describe the instance, with their default names. */
export const headerNames = {
  /** Id of the instance that responded. */
  instanceId: 'X-Instance-Id',
  /** Host and process id. */
  servedBy: 'X-Served-By',
  /** Time from the first byte of the request to the first byte of the response, e.g. `1.2ms`. */
  responseTime: 'X-Response-Time',
  /** `true` if every instance can read the sessions. */
  sessionShared: 'X-Session-Shared',
  /** Whether `/ready` responds 200. */
  ready: 'X-Load-Balancer-Ready',
  /** `true` if this process keeps no state. */
  stateless: 'X-Stateless',
  requestId: 'X-Request-Id',
} as const satisfies Record<string, string>

type HeaderName = keyof typeof headerNames

export interface HeadersOptions {
  /** Recipients of `X-Instance-Id` and `X-Served-By`; `internal` means operators. @default 'all' */
  expose?: 'none' | 'internal' | 'all'
  /** Renames a header, or disables it with `false`. @default the names in {@link headerNames} */
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

/** The value of `X-Load-Balancer-Ready`. */
class ReadyText {
  readonly #fleet: FastifyFleet
  #at = Number.NEGATIVE_INFINITY
  #state: FastifyFleet['state'] | undefined
  #text = 'false'

  constructor(fleet: FastifyFleet) {
    this.#fleet = fleet
  }

  read(): string {
    const { state } = this.#fleet
    const now = performance.now()
    if (state !== this.#state || now - this.#at > readyForMs) {
      this.#at = now
      this.#state = state
      this.#text = String(this.#fleet.ready ?? state === 'serving')
    }
    return this.#text
  }
}

const plugin: FastifyPluginAsync<HeadersOptions> = async (app, given) => {
  await ensure(app, identity, operators, staticHeaders)
  const options = resolveOptions<Required<HeadersOptions>>('headers', shapes, defaults, given)
  const { expose, names } = options
  const { fleet, staticHeaders: fixed } = app
  fleet.configure('headers', options)
  const lower = (name: string | false | undefined): string | undefined => (name ? name.toLowerCase() : undefined)
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
  const readyText = new ReadyText(fleet)
  if (ready !== undefined) fixed.set(ready, 'false')

  app.addHook('onSend', (request, reply, payload, done) => {
    const elapsed = reply.elapsedTime
    // A reply that was sent by an earlier hook has no static headers yet.
    if (!fixed.isApplied(reply)) fixed.apply(reply)
    if (requestId !== undefined) reply.header(requestId, request.id)
    if (ready !== undefined) fixed.update(reply, ready, readyText.read())
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
}

/** Sends headers that describe the instance with every response. */
export const headers: FastifyPluginAsync<HeadersOptions> = fp(plugin, { name: 'fleet-headers', fastify: '5.x' })
export default headers
