// Touches: the servers, the options and the class of requests that Fastify keeps on an app under symbols named
//   `fastify.serverBindings`, `fastify.options` and `fastify.Request`, and the text that `printRoutes()` returns.
// Seen in: Fastify 5.0 to 5.12.
// Worth: needed for correctness, to drain all addresses of `localhost`, and to compare `request.ip` with TRUST_PROXY at
//   boot. Shedding requests before Fastify, which needs to know whose the server is, saves -1 to 15 % of their CPU time,
//   which is not settled; see docs/benchmarks.md.
// Fallback: a symbol that is not found; then only the first server is drained, requests are shed in a hook, and nothing is
//   compared.

import type { Server } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { shortcuts } from './shortcuts.ts'

/** Symbols that were found by their description. A process may have several versions of Fastify. */
const found = new Map<string, symbol>()

/** The symbol with this description on an object or its prototypes. */
export function symbolOf(object: object, description: string): symbol | undefined {
  if (!shortcuts.fastifySymbols) return undefined
  const known = found.get(description)
  if (known !== undefined && known in object) return known
  for (let at: object | null = object; at !== null; at = Object.getPrototypeOf(at)) {
    const symbol = Object.getOwnPropertySymbols(at).find((one) => one.description === description)
    if (symbol) {
      found.set(description, symbol)
      return symbol
    }
  }
  return undefined
}

/** The value under the symbol with this description; `undefined` if there is none. */
export function read<T>(object: object, description: string): T | undefined {
  const key = symbolOf(object, description)
  return key && (object as Record<symbol, T | undefined>)[key]
}

/**
 * The servers of an app: on `localhost` Fastify listens with one server per address. Without the symbol only the first
 * is known; `app.close()` still closes the others.
 */
export function serversOf(app: FastifyInstance): Server[] {
  return [app.server as Server, ...(read<Server[]>(app, 'fastify.serverBindings') ?? [])]
}

/** Whether Fastify created the server. A `serverFactory` may use its server for other applications as well. */
export function hasOwnServer(app: FastifyInstance): boolean {
  const options = read<{ serverFactory?: unknown }>(app, 'fastify.options')
  return options !== undefined && !options.serverFactory
}

/** The `trustProxy` that the app was created with; `undefined` without the symbol. */
export const trustProxyOf = (app: FastifyInstance): unknown =>
  read<{ trustProxy?: unknown }>(app, 'fastify.options')?.trustProxy

/** Whether the app or one of its scopes has routes. */
export const hasRoutes = (app: FastifyInstance): boolean => /[├└]/.test(app.printRoutes())

/** Whether host, version or another constraint selects a route beside the path: `(GET) {"host":"…"}`. */
export const hasRouteConstraints = (app: FastifyInstance): boolean => /\) \{/.test(app.printRoutes())

/** Whether all routes will have hooks that are added now: no scope was registered before, and this is none. */
export const hooksReachAllRoutes = (app: FastifyInstance): boolean => rootOf(app) === app && !hasRoutes(app)

/** Scopes inherit from the app that they are registered in. */
export function rootOf(app: FastifyInstance): FastifyInstance {
  const parent = Object.getPrototypeOf(app) as Partial<FastifyInstance> | null
  return parent && typeof parent.close === 'function' ? rootOf(parent as FastifyInstance) : app
}

/**
 * What `request.ip` will be for a request from `peer` with this `X-Forwarded-For`; `undefined` if that is unknown before
 * the request.
 */
export function ipOf(app: FastifyInstance, peer: string, forwardedFor: string): string | undefined {
  const Request = read<new (...parts: unknown[]) => FastifyRequest>(app, 'fastify.Request')
  if (!Request) return undefined
  const raw = { headers: { 'x-forwarded-for': forwardedFor }, socket: { remoteAddress: peer } }
  try {
    return new Request('', {}, raw, {}, app.log, undefined).ip
  } catch {
    // A `trustProxy` function of the app may expect a real request.
    return undefined
  }
}
