// Touches: the two hooks that @fastify/helmet adds, by passing it an app with another `addHook`.
// Seen in: @fastify/helmet 13.0 to 13.2.
// Worth: 64 % of the CPU time of a hello route with the umbrella plugin, 6 % if the hooks run with `global: false`.
// Fallback: @fastify/helmet is registered unchanged, if its hooks are not the expected ones.

import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { shortcuts } from './shortcuts.ts'

type Hook = (request: FastifyRequest, reply: FastifyReply, next: (error?: Error) => void) => unknown

export interface HelmetHooks {
  /** Sets `reply.helmet`, before its first await. */
  readonly configure: Hook
  readonly apply: Hook
  /** The headers that `apply` sets for a route without options of its own. */
  readonly headers: readonly (readonly [name: string, value: string])[]
}

/**
 * Runs @fastify/helmet and returns its hooks instead of adding them. Its other decorators, its options for single routes and
 * its checks stay, but the caller has to decorate `reply.helmet`. Returns `undefined` if it has other hooks than expected.
 *
 * @param options without functions, so that `headers` are the same for all requests
 */
export async function helmetHooks(
  helmet: FastifyPluginAsync<FastifyHelmetOptions>,
  app: FastifyInstance,
  options: FastifyHelmetOptions,
): Promise<HelmetHooks | undefined> {
  if (!shortcuts.helmetHooks) return undefined
  const hooks: Hook[] = []
  const host: FastifyInstance = Object.create(app, {
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
  await helmet(host, options)
  const [configure, apply] = hooks
  if (!configure || !apply || hooks.length > 2) return undefined
  const headers = await headersOf(apply)
  return headers && { configure, apply, headers }
}

/** Calls a hook with a stand-in for the response and returns the headers that it sets; `undefined` if it needs more. */
async function headersOf(apply: Hook): Promise<[string, string][] | undefined> {
  const found: [string, string][] = []
  const raw = {
    setHeader: (name: string, value: unknown) => found.push([name, String(value)]),
    removeHeader: () => undefined,
  }
  const request = { raw: { headers: {} }, routeOptions: { config: {} } }
  try {
    await apply(request as never, { raw } as never, () => undefined)
    return found
  } catch {
    return undefined
  }
}
