import type { FastifyContextConfig, RouteOptions } from 'fastify'
import { FleetError } from './errors.ts'
import { resolveOptions, type Shape } from './options.ts'

/**
 * Reads a member of a route's `config`, so that no mistake in it is ignored.
 *
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID naming the route, the option and the accepted values
 */
export function readRouteConfig<T, R>(route: RouteOptions, member: keyof FastifyContextConfig, shape: Shape<T, R>): R {
  const { method, url, config = {} } = route
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
      message: `${error.message}; route ${[method].flat().join(', ')} ${url}`,
    })
  }
}
