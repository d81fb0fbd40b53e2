import type { FastifyContextConfig, FastifyInstance, RouteOptions } from 'fastify'
import { FleetError } from './errors.ts'
import { hasRoutes } from './internals/fastify.ts'
import { resolveOptions, type Shape } from './options.ts'

/** Members that a plugin has read, by route. */
const read = new WeakMap<RouteOptions, Set<string>>()

/** Notes that a member is read, by one of our plugins or by the app's own that replaces it. */
export function noteRouteConfig(route: RouteOptions, member: keyof FastifyContextConfig): void {
  const members = read.get(route) ?? new Set()
  read.set(route, members.add(member))
}

/**
 * Reads a member of a route's `config`, so that no mistake in it is ignored.
 *
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID naming the route, the option and the accepted values
 */
export function readRouteConfig<T, R>(route: RouteOptions, member: keyof FastifyContextConfig, shape: Shape<T, R>): R {
  noteRouteConfig(route, member)
  const { config = {} } = route
  try {
    if (Object.hasOwn(config, 'onOutage'))
      throw new FleetError(
        'FLEET_ERR_OPTION_UNKNOWN',
        '`config.onOutage` has no effect; use `config.session.onOutage`, `config.rateLimit.onOutage` or `config.idempotency.onOutage`',
      )
    return resolveOptions('config', { [member]: shape }, { [member]: config[member] })[member] as R
  } catch (error) {
    if (!(error instanceof FleetError)) throw error
    throw new FleetError(error.code, undefined, {
      message: `${error.message}; route ${nameOf(route)}`,
    })
  }
}

const nameOf = ({ method, url }: Pick<RouteOptions, 'method' | 'url'>): string => `${[method].flat().join(', ')} ${url}`

const missing = 'is not registered, or only after the route; register it first, or remove the member'
const tooLate = 'was registered after the route; write `await app.register(fleet)` before it'

/** Members without effect unless a plugin reads them when the route is added, by the name of the plugin. */
const readers = { rateLimit: 'rateLimit', idempotency: 'idempotency', cache: 'httpCache' } as const
type Member = keyof typeof readers
const members = Object.keys(readers) as Member[]
const others = ['session', 'critical', 'probe', 'audience']
const plain = (key: string): string => key.replace(/[-_]/g, '').toLowerCase()
const spellings = new Map([...members, ...others].map((member) => [plain(member), member]))

/** The first member that asks for something. `false` asks for nothing. */
const askedIn = (config: FastifyContextConfig, server: FastifyInstance, done?: Set<string>): Member | undefined =>
  members.find(
    (member) =>
      ![undefined, false].includes(config[member] as undefined | false) &&
      !done?.has(member) &&
      !(member === 'rateLimit' && server.hasPlugin('@fastify/rate-limit')),
  )

function unread(member: Member, route: Pick<RouteOptions, 'method' | 'url'>, fix: string): FleetError {
  const why = `\`config.${member}\` has no effect, because the plugin \`${readers[member]}\` ${fix}`
  return new FleetError('FLEET_ERR_OPTION_UNKNOWN', `${why}; route ${nameOf(route)}`)
}

function rejectSpelling(route: RouteOptions): void {
  const misplaced = (['rateLimit', 'idempotency'] as const).find((member) => Object.hasOwn(route, member))
  if (misplaced)
    throw new FleetError(
      'FLEET_ERR_OPTION_UNKNOWN',
      `\`${misplaced}\` has no effect beside \`config\`; use \`config.${misplaced}\`; route ${nameOf(route)}`,
    )
  for (const key of Object.keys(route.config ?? {})) {
    const member = spellings.get(plain(key))
    if (member !== undefined && member !== key)
      throw new FleetError(
        'FLEET_ERR_OPTION_UNKNOWN',
        `\`config.${key}\` has no effect; use \`config.${member}\`; route ${nameOf(route)}`,
      )
  }
}

/** Servers that had routes before the first of our plugins. */
const late = new WeakSet<object>()

/** Logs that an option for all routes does not apply to those that the app had before. */
export function warnOfEarlierRoutes(app: FastifyInstance, option: string): void {
  if (late.has(app.server))
    app.log.warn(
      `\`${option}\` does not apply to the routes that were added before; write \`await app.register(fleet)\` first`,
    )
}

/**
 * Ends the boot if a route asks for a plugin that does not read its `config`: it is not registered, or too late. Routes that the
 * app had before are not known. They respond 500 instead of serving without their limit.
 *
 * @throws FLEET_ERR_OPTION_UNKNOWN naming the route, the member and the fix, when the app is ready
 */
export function requireReaders(app: FastifyInstance): void {
  const isLate = hasRoutes(app)
  if (isLate) late.add(app.server)
  const added: { route: RouteOptions; scope: FastifyInstance }[] = []
  const known = new WeakSet<object>()
  app.addHook('onRoute', function (route) {
    added.push({ route, scope: this })
  })
  app.addHook('onReady', async () => {
    // Hooks of later plugins may have replaced the object.
    for (const { route, scope } of added.splice(0)) {
      rejectSpelling(route)
      if (!route.config) continue
      const member = askedIn(route.config, scope, read.get(route))
      if (member) throw unread(member, route, missing)
      known.add(route.config)
    }
  })
  if (isLate)
    app.addHook('onRequest', ({ routeOptions: { config, method = '', url = '' }, server }, _reply, done) => {
      const member = config && !known.has(config) ? askedIn(config, server) : undefined
      done(member && unread(member, { method, url }, tooLate))
    })
}
