import type { FastifyContextConfig, FastifyReply, FastifyRequest } from 'fastify'

/**
 * Parts of Fastify's requests and replies by the symbols under which it keeps them. Its public accessors make a new
 * object of twelve members for every look (`request.routeOptions`), or go through each header by name, which in hooks
 * that run for every request is what most of their time is spent on. Where a symbol is not found, because a later
 * Fastify has renamed it, the public way is taken.
 */
export function keyOf(object: object, description: string): symbol | undefined {
  for (let at: object | null = object; at !== null; at = Object.getPrototypeOf(at)) {
    const key = Object.getOwnPropertySymbols(at).find((symbol) => symbol.description === description)
    if (key) return key
  }
  return undefined
}

interface Route {
  readonly config?: FastifyContextConfig
}

/** Of a path that leads to no route. */
const none: FastifyContextConfig = Object.freeze({}) as FastifyContextConfig

let routeKey: symbol | undefined | null = null

/** What the route of a request was registered with; the same object for all requests of a route. */
export function routeOf(request: FastifyRequest): FastifyContextConfig {
  if (routeKey === null) routeKey = keyOf(request, 'fastify.context')
  const route = routeKey && (request as unknown as Record<symbol, Route | undefined>)[routeKey]
  return (route ? route.config : request.routeOptions.config) ?? none
}

let headersKey: symbol | undefined | null = null

type Headers = Record<string, unknown>
type WithHeaders = Record<symbol, Headers | undefined>

/** Adds headers that are the same for every answer, in one step; what the reply has already wins. Names in lower case. */
export function beginWith(reply: FastifyReply, headers: Readonly<Record<string, string>>): void {
  if (headersKey === null) headersKey = keyOf(reply, 'fastify.reply.headers')
  const own = headersKey && (reply as unknown as WithHeaders)[headersKey]
  if (!headersKey || !own) {
    for (const name in headers) if (!reply.hasHeader(name)) reply.header(name, headers[name])
    return
  }
  let some = false
  for (const _ in own)
    some = true
    // A copy of an object whose shape is known is a single allocation.
  ;(reply as unknown as WithHeaders)[headersKey] = some ? { ...headers, ...own } : { ...headers }
}

/** Sets a header that nobody else gives this reply, by its name in lower case. */
export function setOwn(reply: FastifyReply, name: string, value: string): void {
  if (headersKey === null) headersKey = keyOf(reply, 'fastify.reply.headers')
  const own = headersKey && (reply as unknown as WithHeaders)[headersKey]
  if (own) own[name] = value
  else reply.header(name, value)
}
