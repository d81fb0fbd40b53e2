import helmet, { type FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { routeOf } from '../base/internals/fastify.ts'
import { standingHeaders } from './static-headers.ts'

type Hook = (request: FastifyRequest, reply: FastifyReply, next: (error?: Error) => void) => unknown

/** Whether @fastify/helmet would set the same headers for every request. */
function isFixed({ enableCSPNonces, global, ...options }: FastifyHelmetOptions): boolean {
  const hasFunction = (value: unknown): boolean =>
    typeof value === 'function' ||
    (typeof value === 'object' && value !== null && Object.values(value).some(hasFunction))
  return enableCSPNonces !== true && global !== false && !hasFunction(options)
}

/**
 * @fastify/helmet without its hooks, which come back instead of running for every request: what it decorates, its
 * options for single routes and its checks stay its own.
 */
async function hooksOf(app: FastifyInstance, options: FastifyHelmetOptions): Promise<[configure: Hook, apply: Hook]> {
  const hooks: Hook[] = []
  const host = Object.create(app, {
    addHook: {
      value: (name: string, hook: Hook) =>
        name === 'onRequest' ? hooks.push(hook) : app.addHook(name as 'onRequest', hook),
    },
    decorateReply: {
      value: (name: string, value: unknown) => {
        if (name !== 'helmet') app.decorateReply(name, value)
      },
    },
  })
  await (helmet as unknown as (app: FastifyInstance, options: FastifyHelmetOptions) => Promise<void>)(host, options)
  const [configure, apply] = hooks
  if (!configure || !apply || hooks.length !== 2) throw new Error('@fastify/helmet has other hooks than expected')
  return [configure, apply]
}

/** The headers that @fastify/helmet sets, found out by letting it. */
function headersFrom(apply: Hook): [string, string][] {
  const found: [string, string][] = []
  const raw = {
    setHeader: (name: string, value: unknown) => found.push([name, String(value)]),
    removeHeader: () => undefined,
  }
  const request = { raw: { headers: {} }, routeOptions: { config: {} } }
  void apply(request as never, { raw } as never, () => undefined)
  return found
}

const plugin: FastifyPluginAsync<FastifyHelmetOptions> = async (app, options) => {
  if (!isFixed(options)) {
    await app.register(helmet, options)
    return
  }
  if (!app.hasDecorator('standingHeaders')) await app.register(standingHeaders)
  const [configure, apply] = await hooksOf(app, options)
  const names: string[] = []
  for (const [name, value] of headersFrom(apply)) {
    app.standingHeaders.set(name, value)
    names.push(name)
  }
  // `reply.helmet()` is made when it is called: the first hook puts it on the reply at once, though it is async.
  app.decorateReply('helmet', function (this: FastifyReply, ...given: Parameters<FastifyReply['helmet']>) {
    void configure(this.request, this, () => undefined)
    return this.helmet(...given)
  })
  app.addHook('onRequest', (request, reply, done) => {
    if ((routeOf(request) as { helmet?: unknown }).helmet === undefined) {
      done()
      return
    }
    // A route with options of its own.
    for (const name of names) reply.removeHeader(name)
    Promise.resolve(configure(request, reply, done))
      .then(() => apply(request, reply, done))
      .then(
        () => {
          if (!skips(request)) done()
        },
        (error: Error) => done(error),
      )
  })
}

/** The hook calls `done` itself for a route that wants none, and answers a promise for every other. */
const skips = (request: FastifyRequest): boolean =>
  (routeOf(request) as { helmet?: { skipRoute?: boolean } }).helmet?.skipRoute === true

/**
 * Security headers, as @fastify/helmet makes them, with its options for all and for single routes. It makes them anew
 * for every response, which costs more than everything else that is done for a small one; where they are the same for
 * every response, they are made once here.
 */
export const securityHeaders: FastifyPluginAsync<FastifyHelmetOptions> = fp(plugin, {
  name: 'fleet-security-headers',
  fastify: '5.x',
})
