import type { FastifyInstance, RouteOptions } from 'fastify'
import { hasErrorHandler } from '../../base/internals/decorators.ts'

type ErrorHandler = (this: FastifyInstance, error: Error, request: unknown, reply: unknown) => unknown

interface Joined {
  /** What is registered now is of a plugin of fleet. */
  readonly isLoading: boolean
  adopt(what: string): void
}

/** The app's error handler takes the place of ours, so that Fastify does not warn that one was overridden. */
export function shareErrorHandler(app: FastifyInstance, guest: Joined): void {
  const methods = app as unknown as {
    setErrorHandler(this: FastifyInstance, handler: ErrorHandler): FastifyInstance
  }
  const { setErrorHandler } = methods
  let hasOurs = false
  let ofApp: ErrorHandler | undefined
  methods.setErrorHandler = function (this: FastifyInstance, handler: ErrorHandler) {
    const isApp = this === app
    if (guest.isLoading && isApp) {
      if (hasErrorHandler(this)) {
        guest.adopt('error handler')
        return this
      }
      hasOurs = true
      return setErrorHandler.call(this, function dispatch(this: FastifyInstance, ...args) {
        return (ofApp ?? handler).apply(this, args)
      })
    }
    if (!isApp || !hasOurs || ofApp !== undefined || typeof handler !== 'function')
      return setErrorHandler.call(this, handler)
    ofApp = handler
    guest.adopt('error handler')
    return this
  }
}

const ofApp = 'fleetRouteOfApp'
const strategy = {
  name: ofApp,
  storage: () => {
    const routes = new Map<unknown, unknown>()
    return {
      get: (value: unknown) => routes.get(value) ?? null,
      set: (value: unknown, route: unknown) => void routes.set(value, route),
    }
  },
  deriveConstraint: () => true,
  validate: () => undefined,
} as unknown as Parameters<FastifyInstance['addConstraintStrategy']>[0]

/** Gives a route a constraint that every request meets. The router prefers it to a route at the same path that has none. */
export function preferRoute(app: FastifyInstance, route: RouteOptions): void {
  if (!app.hasConstraintStrategy(ofApp)) app.addConstraintStrategy(strategy)
  route.constraints = { ...route.constraints, [ofApp]: true }
}
