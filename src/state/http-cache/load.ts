import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyRequest, LightMyRequestResponse } from 'fastify'
import type { StoredHeaders as Headers } from '../stored-response.ts'

/** A request that the response cache makes, and what it learns of the response. */
export interface Load {
  /** Id of the route whose response is wanted. */
  readonly route: string
  readonly url: string
  readonly https: boolean
  /** Whether it got to that route with that URL, and not to another by another reading of the URL. */
  reached: boolean
  before: Headers
  own: Headers
}

const loadHeader = 'x-fleet-cache-load'
const loads = new Map<string, Load>()

/** No client's: of a network for documentation (RFC 5737). The default would be loopback, which some routes trust. */
const noClient = '192.0.2.0'

export function loadOf(request: FastifyRequest): Load | undefined {
  const id = request.headers[loadHeader]
  return id === undefined ? undefined : loads.get(id as string)
}

/**
 * What a response depends on besides the route: scheme and host as the application hears them, the URL, and the listed
 * headers. `undefined`: this request is not for the cache, because its URL can be read in two ways, or it has no host.
 */
export function targetOf(request: FastifyRequest, vary: readonly string[]): readonly (string | null)[] | undefined {
  const { host, originalUrl, headers } = request
  if (!host || !originalUrl.startsWith('/') || originalUrl.startsWith('//')) return undefined
  return [
    schemeOf(request),
    host,
    originalUrl,
    ...vary.map((name) => (Object.hasOwn(headers, name) ? String(headers[name]) : null)),
  ]
}

const schemeOf = ({ protocol }: FastifyRequest): string => (protocol === 'https' ? 'https' : 'http')

/**
 * Asks the route itself, as a client would that sends nothing but what the key is made of: neither another header of the
 * request at hand nor its client's address can find its way into a response that others get.
 */
export async function load(
  app: FastifyInstance,
  request: FastifyRequest,
  route: { readonly id: string; readonly vary: readonly string[] },
): Promise<Load & { response: LightMyRequestResponse }> {
  const id = randomUUID()
  const { originalUrl: url, host } = request
  const load: Load = { route: route.id, url, https: schemeOf(request) === 'https', reached: false, before: {}, own: {} }
  const sent = route.vary.filter((name) => Object.hasOwn(request.headers, name))
  const headers = Object.fromEntries(sent.map((name) => [name, request.headers[name]]))
  loads.set(id, load)
  try {
    const options = { url, headers: { ...headers, host, [loadHeader]: id }, remoteAddress: noClient }
    return Object.assign(load, { response: await app.inject(options) })
  } finally {
    loads.delete(id)
  }
}

/** Lets the scheme of a load be that of the request it is for. */
export function giveScheme(request: FastifyRequest): void {
  if (request.headers[loadHeader] === undefined) return
  if (loadOf(request)?.https) Object.assign(request.raw.socket, { encrypted: true })
}
