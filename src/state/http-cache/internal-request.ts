import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyRequest, LightMyRequestResponse } from 'fastify'
import type { StoredHeaders } from '../stored-response.ts'

/** A request that the response cache sends to the app itself, and the facts that the hooks record about its response. */
export interface InternalRequest {
  /** Id of the route whose response is cached. */
  readonly route: string
  readonly url: string
  readonly https: boolean
  /** Whether the request arrived at that route with that URL, not at another one that resolves the URL differently. */
  reached: boolean
  /** The headers before the handler ran. */
  before: StoredHeaders
  /** The headers that the handler set. */
  own: StoredHeaders
}

const idHeader = 'x-fleet-cache-load'
const active = new Map<string, InternalRequest>()

/** An address of a documentation network (RFC 5737). The default would be loopback, which some routes trust. */
const noClient = '192.0.2.0'

/** @returns the internal request that this request is, else `undefined`; the id is random, so clients cannot forge it */
export function internalRequest(request: FastifyRequest): InternalRequest | undefined {
  const id = request.headers[idHeader]
  return id === undefined ? undefined : active.get(id as string)
}

/**
 * The parts of a request that its response may depend on besides the route: scheme and host as the application sees them,
 * the URL, and the listed headers.
 *
 * @returns `undefined` if the request must bypass the cache: its URL is ambiguous, or it has no host
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
 * Sends a request to the route with the parts that make up the key and nothing else. Neither another header of the client's
 * request nor the client's address can influence a response that other clients receive.
 */
export async function sendInternal(
  app: FastifyInstance,
  request: FastifyRequest,
  route: { readonly id: string; readonly vary: readonly string[] },
): Promise<InternalRequest & { response: LightMyRequestResponse }> {
  const id = randomUUID()
  const { originalUrl: url, host } = request
  const https = schemeOf(request) === 'https'
  const internal: InternalRequest = { route: route.id, url, https, reached: false, before: {}, own: {} }
  const sent = route.vary.filter((name) => Object.hasOwn(request.headers, name))
  const headers = Object.fromEntries(sent.map((name) => [name, request.headers[name]]))
  active.set(id, internal)
  try {
    const options = { url, headers: { ...headers, host, [idHeader]: id }, remoteAddress: noClient }
    return Object.assign(internal, { response: await app.inject(options) })
  } finally {
    active.delete(id)
  }
}

/** Gives an internal request the scheme of the client's request. */
export function applyScheme(request: FastifyRequest): void {
  if (internalRequest(request)?.https) Object.assign(request.raw.socket, { encrypted: true })
}
