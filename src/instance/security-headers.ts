import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { ensure } from '../base/ensure.ts'
import { helmetHooks } from '../base/internals/helmet-hooks.ts'
import { fleetPlugin, onReplaced, replacedIn } from './compat/index.ts'
import { staticHeaders } from './static-headers.ts'

/**
 * The options with the default of this package: the load balancer decides about https, and over plain HTTP the directive
 * `upgrade-insecure-requests` breaks every asset of a page. Whatever the application sets wins.
 */
export function withHelmetDefaults(options: FastifyHelmetOptions): FastifyHelmetOptions {
  const given = options.contentSecurityPolicy ?? true
  if (given === false || (typeof given === 'object' && given.useDefaults === false)) return options
  const policy = given === true ? {} : given
  const isSet = 'upgrade-insecure-requests' in { ...policy.directives }
  const directives = { ...(!isSet && { upgradeInsecureRequests: null }), ...policy.directives }
  return { ...options, contentSecurityPolicy: { ...policy, directives } }
}

/** Whether @fastify/helmet would set the same headers for every request. */
function isConstant({ enableCSPNonces, global, ...options }: FastifyHelmetOptions): boolean {
  const hasFunction = (value: unknown): boolean =>
    typeof value === 'function' ||
    (typeof value === 'object' && value !== null && Object.values(value).some(hasFunction))
  return enableCSPNonces !== true && global !== false && !hasFunction(options)
}

/** The options of a request's route. */
const optionsOf = ({ routeOptions }: FastifyRequest): { skipRoute?: boolean } | undefined =>
  (routeOptions.config as { helmet?: { skipRoute?: boolean } }).helmet

const plugin: FastifyPluginAsync<FastifyHelmetOptions> = async (app, options) => {
  const { default: helmet } = await import('@fastify/helmet')
  const hooks = isConstant(options) ? await helmetHooks(helmet, app, options) : undefined
  if (!hooks) {
    await app.register(helmet, options)
    return
  }
  const { configure, apply, headers } = hooks
  await ensure(app, staticHeaders)
  for (const [name, value] of headers) app.staticHeaders.set(name, value)
  app.decorateReply('helmet', function (this: FastifyReply, ...given: Parameters<FastifyReply['helmet']>) {
    // A call replaces headers of the raw response, and those of the reply would override them.
    for (const [name, value] of headers) {
      if (this.getHeader(name) !== value) continue
      this.raw.setHeader(name, value)
      this.removeHeader(name)
    }
    void configure(this.request, this, () => undefined)
    return this.helmet(...given)
  })
  const isReplaced = replacedIn(app, '@fastify/helmet')
  onReplaced(app, '@fastify/helmet', (scope) => {
    if (scope === app) for (const [name] of headers) app.staticHeaders.delete(name)
    else
      scope.addHook('onRequest', (_request, reply, done) => {
        // A scope that was registered before fleet has set its headers already.
        for (const [name] of headers) if (!reply.raw.hasHeader(name)) reply.removeHeader(name)
        done()
      })
  })
  app.addHook('onRequest', (request, reply, done) => {
    const own = optionsOf(request)
    if (own === undefined || isReplaced(request)) {
      done()
      return
    }
    for (const [name] of headers) reply.removeHeader(name)
    Promise.resolve(configure(request, reply, done))
      .then(() => apply(request, reply, done))
      .then(
        () => {
          // For a skipped route the hook calls `done` itself; for all others it returns a promise.
          if (own.skipRoute !== true) done()
        },
        (error: Error) => done(error),
      )
  })
}

/**
 * Security headers of @fastify/helmet, with its options for all routes and for single routes. @fastify/helmet computes
 * them for every response, which takes longer than a small response itself. If they are constant, they are computed
 * once here.
 */
export const securityHeaders: FastifyPluginAsync<FastifyHelmetOptions> = fleetPlugin('helmet', plugin)
