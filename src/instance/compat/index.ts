/**
 * Joins an app that has plugins of its own. What the app registers itself, before or after fleet, at the root or in a scope,
 * wins over the plugins of fleet:
 *
 * - Before: a plugin of fleet is left out if `Guest.givesWay()`.
 * - After: Fastify offers no moment at which all plugins are known and more can be added. So fleet's plugins are registered at
 *   once, and give way: `Guest` observes the decorators, error handlers and routes that the app adds and removes ours of
 *   the same name. A plugin whose hooks have to stop then asks {@link replacedIn}.
 *
 * Each plugin of fleet does this, registered alone or by `fleet`, because all are made by {@link fleetPlugin}.
 */
import type { FastifyFleet, FastifyInstance, FastifyRequest } from 'fastify'
import { type Decorated, hasRequestIds } from '../../base/internals/decorators.ts'
import { guestOf } from './guest.ts'
import { checks, places, yielding } from './yielding.ts'

export { Guest, guestOf } from './guest.ts'
export { fleetPlugin } from './plugin.ts'

/** Whether a request is in a scope in which the app's own plugin replaces ours. */
export function replacedIn(app: FastifyInstance, what: string): (request: Pick<FastifyRequest, 'server'>) => boolean {
  const scopes = guestOf(app)?.replacedIn(what) ?? []
  return ({ server }) =>
    scopes.length > 0 && scopes.some((scope) => scope === server || Object.prototype.isPrototypeOf.call(scope, server))
}

/** Registers one of our plugins again, in a scope. It does not count as one of the app. */
export async function asOurs(app: FastifyInstance, option: string, register: () => unknown): Promise<void> {
  const guest = guestOf(app)
  if (!guest) return void (await register())
  const leave = guest.enter(option)
  try {
    await register()
  } finally {
    leave()
  }
}

/**
 * Adds members to `app.fleet`, which scopes share.
 *
 * @throws FLEET_ERR_PLUGIN_CONFLICT if the plugin added them in another scope
 */
export function extendFleet(app: FastifyInstance, members: Partial<FastifyFleet>): void {
  const taken = Object.keys(members).find((name) => Object.hasOwn(app.fleet, name))
  const conflict = taken === undefined ? undefined : guestOf(app)?.secondScope(`app.fleet.${taken}`)
  if (conflict) throw conflict
  Object.defineProperties(app.fleet, Object.getOwnPropertyDescriptors(members))
}

/** Calls back for each scope in which the app's own plugin replaces ours. */
export function onReplaced(app: FastifyInstance, what: string, listener: (scope: FastifyInstance) => void): void {
  guestOf(app)?.onReplaced(what, listener)
}

/** Whether the app has a route at a path of ours. It is used instead. */
export function hasOwnRoute(app: FastifyInstance, method: 'GET' | 'POST', path: string): boolean {
  const url = app.prefix + path
  const found = app.hasRoute({ method, url })
  if (found) guestOf(app)?.adopt(`route ${method} ${url}`)
  return found
}

/** Whether the app has request ids of its own, which are used instead of ours. */
export function hasOwnRequestIds(app: FastifyInstance): boolean {
  const found = hasRequestIds(app)
  if (found) guestOf(app)?.adopt('request ids')
  return found
}

/** Whether the app has a decorator of this name, which is used instead of ours. */
export function hasOwnDecorator(app: FastifyInstance, kind: Decorated, name: string): boolean {
  const found = app[checks[kind]](name)
  if (found) guestOf(app)?.adopt(yielding[kind].get(name) ?? `${places[kind]}.${name}`)
  return found
}
