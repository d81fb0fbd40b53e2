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

/** Members without effect unless a plugin reads them when the route is added, by the name of the plugin. */
const readers = { rateLimit: 'rateLimit', idempotency: 'idempotency', cache: 'httpCache' } as const
type Member = keyof typeof readers
const members = Object.keys(readers) as Member[]
const others = ['session', 'critical', 'probe', 'audience']
const plain = (key: string): string => key.replace(/[-_]/g, '').toLowerCase()
const spellings = new Map([...members, ...others].map((member) => [plain(member), member]))

/** Members that ask for something, which no plugin reads. `false` asks for nothing. */
const unreadIn = (config: FastifyContextConfig, server: FastifyInstance, done?: Set<string>): Member[] =>
  members.filter(
    (member) =>
      ![undefined, false].includes(config[member] as undefined | false) &&
      !done?.has(member) &&
      !(member === 'rateLimit' && server.hasPlugin('@fastify/rate-limit')),
  )

/** Names that resemble a member of ours, with the member. */
function* misspelled(route: RouteOptions): Generator<readonly [written: string, member: string]> {
  for (const member of ['rateLimit', 'idempotency'])
    if (Object.hasOwn(route, member)) yield [`\`${member}\` beside \`config\``, member]
  for (const key of Object.keys(route.config ?? {})) {
    const member = spellings.get(plain(key))
    if (member !== undefined && member !== key) yield [`\`config.${key}\``, member]
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
 * Logs a warning for each route whose `config` asks for a plugin that does not read it: it is not registered, or too late, or the
 * name is misspelled. Not an error, because the app may read such a member itself. Of routes that the app had before, the
 * warning comes with their first request.
 */
export function warnOfUnreadConfig(app: FastifyInstance): void {
  // Fastify adds a HEAD route for each GET route.
  const warned = new Set<string>()
  const warn = (written: string, route: Pick<RouteOptions, 'method' | 'url'>, why: string): void => {
    if (warned.size === warned.add(`${written} ${route.url}`).size) return
    app.log.warn(`${written} of route ${nameOf(route)} has no effect unless the app reads it itself: ${why}`)
  }
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
      for (const [written, member] of misspelled(route)) warn(written, route, `fleet reads \`config.${member}\``)
      if (!route.config) continue
      known.add(route.config)
      for (const member of unreadIn(route.config, scope, read.get(route)))
        warn(
          `\`config.${member}\``,
          route,
          `the plugin \`${readers[member]}\` is not registered, or only after the route`,
        )
    }
  })
  if (!isLate) return
  app.addHook('onRequest', ({ routeOptions: { config, method = '', url = '' }, server }, _reply, done) => {
    if (config && !known.has(config)) {
      known.add(config)
      for (const member of unreadIn(config, server))
        warn(
          `\`config.${member}\``,
          { method, url },
          'fleet was registered after the route; write `await app.register(fleet)` before it',
        )
    }
    done()
  })
}
