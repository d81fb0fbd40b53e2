import helmet, { type FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { ensure } from '../base/ensure.ts'
import { runWith } from '../base/internals/captured-hooks.ts'
import { routeOf } from '../base/internals/fastify.ts'
import { shortcuts } from '../base/internals/shortcuts.ts'
import { staticHeaders } from './static-headers.ts'

type Hook = (request: FastifyRequest, reply: FastifyReply, next: (error?: Error) => void) => unknown

/** Whether @fastify/helmet would set the same headers for every request. */
function isConstant({ enableCSPNonces, global, ...options }: FastifyHelmetOptions): boolean {
  const hasFunction = (value: unknown): boolean =>
    typeof value === 'function' ||
    (typeof value === 'object' && value !== null && Object.values(value).some(hasFunction))
  return enableCSPNonces !== true && global !== false && !hasFunction(options)
}

/**
 * Runs @fastify/helmet and returns its two hooks instead of adding them. Its decorators, its options for single routes
 * and its checks stay. Returns `undefined` if it has other hooks than expected.
 */
async function helmetHooks(
  app: FastifyInstance,
  options: FastifyHelmetOptions,
): Promise<[configure: Hook, apply: Hook] | undefined> {
  const hooks: Hook[] = []
  await runWith(helmet, app, options, {
    addHook: (name: string, hook: Hook) =>
      name === 'onRequest' ? hooks.push(hook) : app.addHook(name as 'onRequest', hook),
    // The plugin below decorates `reply.helmet` itself.
    decorateReply: (name: string, value: unknown) => {
      if (name !== 'helmet') app.decorateReply(name, value)
    },
  })
  const [configure, apply] = hooks
  return configure && apply && hooks.length === 2 ? [configure, apply] : undefined
}

/** Calls the hook of @fastify/helmet with a stand-in for the response and returns the headers that it sets. */
function headersOf(apply: Hook): [string, string][] {
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
  const hooks = shortcuts.capturedHooks && isConstant(options) ? await helmetHooks(app, options) : undefined
  if (!hooks) {
    await app.register(helmet, options)
    return
  }
  const [configure, apply] = hooks
  await ensure(app, staticHeaders)
  const names: string[] = []
  for (const [name, value] of headersOf(apply)) {
    app.staticHeaders.set(name, value)
    names.push(name)
  }
  // `configure` is async, but sets `reply.helmet` before its first await.
  app.decorateReply('helmet', function (this: FastifyReply, ...given: Parameters<FastifyReply['helmet']>) {
    void configure(this.request, this, () => undefined)
    return this.helmet(...given)
  })
  app.addHook('onRequest', (request, reply, done) => {
    if ((routeOf(request) as { helmet?: unknown }).helmet === undefined) {
      done()
      return
    }
    // The route has options of its own.
    for (const name of names) reply.removeHeader(name)
    Promise.resolve(configure(request, reply, done))
      .then(() => apply(request, reply, done))
      .then(
        () => {
          if (!isSkipped(request)) done()
        },
        (error: Error) => done(error),
      )
  })
}

/** For such a route the hook calls `done` itself; for all others it returns a promise. */
const isSkipped = (request: FastifyRequest): boolean =>
  (routeOf(request) as { helmet?: { skipRoute?: boolean } }).helmet?.skipRoute === true

/**
 * Security headers of @fastify/helmet, with its options for all routes and for single routes. @fastify/helmet computes
 * them for every response, which takes longer than a small response itself. If they are constant, they are computed
 * once here.
 */
export const securityHeaders: FastifyPluginAsync<FastifyHelmetOptions> = fp(plugin, {
  name: 'fleet-security-headers',
  fastify: '5.x',
})
