import type { FastifyFleet, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { setOwn } from '../base/internals/fastify.ts'
import { either, object, oneOf, resolveOptions, type Shape, type Shapes } from '../base/options.ts'
import { identity } from './identity.ts'
import { operators } from './operators/index.ts'
import { standingHeaders } from './static-headers.ts'

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

/** Times below 100 ms as text: making it costs more than looking it up. */
const tenths: string[] = []

function milliseconds(ms: number): string {
  const tenth = Math.round(ms * 10)
  if (tenth >= 1_000) return `${ms.toFixed(1)}ms`
  tenths[tenth] ??= `${(tenth / 10).toFixed(1)}ms`
  return tenths[tenth]
}

/** How old what `X-Load-Balancer-Ready` says may be, ms: a look at all checks for every answer is not free. */
const readyForMs = 5

/** What `/ready` would say, as text. */
class Readiness {
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
  if (!app.hasDecorator('fleet')) await app.register(identity)
  if (!app.hasDecorator('isOperator')) await app.register(operators)
  if (!app.hasDecorator('standingHeaders')) await app.register(standingHeaders)
  const options = resolveOptions<Required<HeadersOptions>>('headers', shapes, defaults, given)
  const { expose, names } = options
  const { fleet, standingHeaders: standing } = app
  fleet.configure('headers', options)
  const lower = (name: string | false | undefined): string | undefined => (name ? name.toLowerCase() : undefined)
  const [ready, requestId, responseTime] = [lower(names.ready), lower(names.requestId), lower(names.responseTime)]
  const identifying: [string, string][] = []
  if (names.instanceId) identifying.push([names.instanceId, fleet.instance.id])
  if (names.servedBy) identifying.push([names.servedBy, `${fleet.instance.host}:${fleet.instance.pid}`])

  /** What changes seldom or never. */
  const settle = (): void => {
    if (expose === 'all') for (const [name, value] of identifying) standing.set(name, value)
    if (names.sessionShared) standing.set(names.sessionShared, String(fleet.facts.sessionStore === 'redis'))
    if (names.stateless) standing.set(names.stateless, String(fleet.stateless))
  }
  settle()
  // Rooms that come later say where they keep their state.
  fleet.onDescribe(settle)
  const readiness = new Readiness(fleet)
  if (ready !== undefined) standing.set(ready, 'false')
  // These have their place from the beginning, and their value when the answer is sent.
  for (const name of [requestId, responseTime]) if (name !== undefined) standing.reserve(name)

  app.addHook('onSend', (request, reply, payload, done) => {
    const elapsed = reply.elapsedTime
    // Replies of hooks that ran before this plugin's own have not begun with anything.
    if (!standing.begun(reply)) standing.begin(reply)
    if (requestId !== undefined) setOwn(reply, requestId, request.id)
    if (ready !== undefined) standing.update(reply, ready, readiness.read())
    if (responseTime !== undefined) setOwn(reply, responseTime, milliseconds(elapsed))
    if (expose === 'internal' && app.isOperator(request)) {
      for (const [name, value] of identifying) reply.header(name, value)
    }
    // Timings help an attacker as well; they are given to whoever asks for them by name.
    if (request.headers['x-server-timing'] !== undefined) {
      reply.header('Server-Timing', `app;dur=${elapsed.toFixed(1)}`)
    }
    done(null, payload)
  })
}

/** Sends the identity headers with every response. */
export const headers: FastifyPluginAsync<HeadersOptions> = fp(plugin, { name: 'fleet-headers', fastify: '5.x' })
export default headers
