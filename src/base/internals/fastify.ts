// Touches: properties that Fastify keeps under symbols named `fastify.context` (request), `fastify.reply.headers`
//   (reply), `fastify.serverBindings` and `fastify.options` (app), and the text that `printRoutes()` returns.
// Seen in: Fastify 5.0 to 5.12.
// Worth: public accessors create an object of twelve members per call (`request.routeOptions`) or handle headers one
//   by one, which is most of the time of a hook that runs for every request.
// Fallback: the public accessors; a symbol that is not found, after a renaming in Fastify, selects them.

import type { Server } from 'node:http'
import type { FastifyContextConfig, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { shortcuts } from './shortcuts.ts'

/** The symbol with this description on an object or its prototypes. */
export function symbolOf(object: object, description: string): symbol | undefined {
  if (!shortcuts.fastifySymbols) return undefined
  for (let at: object | null = object; at !== null; at = Object.getPrototypeOf(at)) {
    const found = Object.getOwnPropertySymbols(at).find((symbol) => symbol.description === description)
    if (found) return found
  }
  return undefined
}

function read<T>(object: object, description: string): T | undefined {
  const key = symbolOf(object, description)
  return key && (object as Record<symbol, T | undefined>)[key]
}

interface Route {
  readonly config?: FastifyContextConfig
}

/** Config of a request that matched no route. */
const noConfig: FastifyContextConfig = Object.freeze({}) as FastifyContextConfig

let routeKey: symbol | undefined | null = null

/** The `config` of the route of a request; the same object for all requests of a route. */
export function routeOf(request: FastifyRequest): FastifyContextConfig {
  if (routeKey === null) routeKey = symbolOf(request, 'fastify.context')
  const route = routeKey && (request as unknown as Record<symbol, Route | undefined>)[routeKey]
  return (route ? route.config : request.routeOptions.config) ?? noConfig
}

let headersKey: symbol | undefined | null = null

type HeaderTable = Record<string, unknown>
type WithHeaders = Record<symbol, HeaderTable | undefined>

/** Adds headers to a reply in one step; headers that the reply already has win. Names are in lower case. */
export function addMissingHeaders(reply: FastifyReply, headers: Readonly<Record<string, string>>): void {
  if (headersKey === null) headersKey = symbolOf(reply, 'fastify.reply.headers')
  const own = headersKey && (reply as unknown as WithHeaders)[headersKey]
  if (!headersKey || !own) {
    for (const name in headers) if (!reply.hasHeader(name)) reply.header(name, headers[name])
    return
  }
  let hasOwn = false
  for (const _ in own)
    hasOwn = true
    // Copying an object of known shape is a single allocation.
  ;(reply as unknown as WithHeaders)[headersKey] = hasOwn ? { ...headers, ...own } : { ...headers }
}

/** Sets one header without Fastify's checks. The name is in lower case. */
export function setHeader(reply: FastifyReply, name: string, value: string): void {
  if (headersKey === null) headersKey = symbolOf(reply, 'fastify.reply.headers')
  const own = headersKey && (reply as unknown as WithHeaders)[headersKey]
  if (own) own[name] = value
  else reply.header(name, value)
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

/** Whether the app or one of its scopes has routes. */
export const hasRoutes = (app: FastifyInstance): boolean => /[├└]/.test(app.printRoutes())

/** Whether host, version or another constraint selects a route beside the path: `(GET) {"host":"…"}`. */
export const hasRouteConstraints = (app: FastifyInstance): boolean => /\) \{/.test(app.printRoutes())
