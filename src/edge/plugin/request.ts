import { stringify } from 'node:querystring'
import type { Readable } from 'node:stream'
import type { FastifyRequest } from 'fastify'
import { dictionary } from '../../base/dictionary.ts'
import { FleetError } from '../../base/errors.ts'
import { isForwarded } from '../../instance/client-key.ts'
import { bodyLength, clientGone, invalid } from '../http/admission.ts'
import { HeaderLines, hopByHop, requestHeaders } from '../http/headers.ts'
import { isHttp2 } from '../http/node-server.ts'
import { Origin } from '../http/origins.ts'
import { canonicalPath, isAmbiguous, resolveTarget } from '../http/paths.ts'
import { streamBody } from '../http/request-body.ts'
import type { Headers } from './options.ts'

/** Path and query of a request's URL, without a fragment. */
export interface Target {
  readonly path: string
  /** Empty, or with its `?`. */
  readonly search: string
}

/**
 * Splits a URL, which may be absolute (RFC 9112 section 3.2.2).
 *
 * @throws FLEET_ERR_REQUEST_INVALID for a path that leads upwards, which could leave the prefix of a route, and for one that
 * only some routers would read that way
 */
export function targetOf(url: string): Target {
  const absolute = url.startsWith('/') || url.startsWith('?') ? undefined : URL.parse(url)
  const text = absolute ? absolute.pathname + absolute.search : url
  const [, raw = '', search = ''] = /^([^?#]*)(\?[^#]*)?/.exec(text) ?? []
  if (absolute === null || /[^\x21-\x7e\x80-\xff]/.test(raw + search)) throw invalid('path')
  if (/(?:^|\/)(?:\.|%2e){2}(?:$|\/)/i.test(raw)) throw invalid('path')
  const path = resolveTarget(raw)
  if (path === undefined || canonicalPath(path) === undefined || isAmbiguous(path)) throw invalid('path')
  return { path, search }
}

const origins = new WeakMap<object, Origin>()

/** The peer of a request's connection. */
function originOf(request: FastifyRequest): Origin {
  const { socket } = request.raw
  const known = origins.get(socket)
  // Fastify's own trust in a peer shows only in requests with X-Forwarded-For, of which the first may have none.
  if (known?.trusted) return known
  const trusted = isForwarded(request)
  if (known && !trusted) return known
  const origin = new Origin(socket, { includes: () => trusted })
  origins.set(socket, origin)
  return origin
}

/**
 * The request headers for the upstream, with `X-Forwarded-*` and `X-Request-Id`.
 *
 * @throws FLEET_ERR_REQUEST_INVALID
 */
export function forwardedHeaders(request: FastifyRequest, preserveHost: boolean): HeaderLines {
  const { raw, headers, id } = request
  const authority = isHttp2(raw) ? (headers[':authority'] as string | undefined) : undefined
  const known = typeof id === 'string' && /^[\x21-\x7e]{1,200}$/.test(id) ? id : undefined
  const host = authority ?? headers.host ?? ''
  const lines = requestHeaders(new HeaderLines(preserveHost), raw.rawHeaders, headers, originOf(request), host, known)
  if (!lines) throw invalid('Host')
  if (isHttp2(raw) && /[^\t\r\n\x20-\x7e\x80-\xff]/.test(lines.text)) throw invalid('header')
  return lines
}

/** The headers as an object, for functions of the app. */
export function headersOf(lines: HeaderLines): Headers {
  const headers: Headers = dictionary()
  for (const [name, value] of lines) {
    const previous = headers[name]
    headers[name] = previous === undefined ? value : [previous, value].flat()
  }
  return headers
}

const token = /^[\w!#$%&'*+.^`|~-]+$/
const fieldValue = /^[\t\x20-\x7e\x80-\xff]*$/

/** Whether a header can be sent. */
export const isField = (name: string, value: string | string[]): boolean =>
  token.test(name) && [value].flat().every((each) => fieldValue.test(String(each)))

/**
 * The headers that a function of the app returned. Fields that frame the message or describe the connection are dropped.
 *
 * @throws FLEET_ERR_OPTION_INVALID for headers that cannot be sent
 */
export function linesOf(headers: Headers): HeaderLines {
  const host = headers.host
  const lines = new HeaderLines(typeof host === 'string' && host !== '')
  for (const [name, value] of Object.entries(headers)) {
    const lower = name.toLowerCase()
    if (value === undefined || hopByHop.has(lower) || lower === 'trailer' || lower === 'expect') continue
    if (lower === 'host' && !lines.hasHost) continue
    if (!isField(name, value)) {
      const detail = `\`proxyPlugin.rewriteRequestHeaders\` returned a header that cannot be sent: ${JSON.stringify(name)}`
      throw new FleetError('FLEET_ERR_OPTION_INVALID', detail)
    }
    for (const each of [value].flat()) lines.push(lower, String(each))
  }
  return lines
}

export interface UpstreamBody {
  readonly body: Buffer | AsyncIterable<Buffer> | null
  /** Set if the body is not the client's own: its length and type replace the client's. */
  readonly replaced?: { readonly type: string | undefined }
}

interface BodyBounds {
  /** Largest length in bytes; 0: no limit. */
  readonly limit: number
  /** Bodies up to this length are read before a target is chosen. */
  readonly bufferBytes: number
}

/**
 * The body of a request for the upstream: the client's, unread, or what a parser or a hook has made of it.
 *
 * @param given replaces `request.body`
 * @throws FLEET_ERR_BODY_TOO_LARGE, FLEET_ERR_REQUEST_INVALID
 */
export async function upstreamBody(
  { raw, body: parsed, headers }: FastifyRequest,
  { limit, bufferBytes }: BodyBounds,
  given: { body?: unknown; contentType?: string },
): Promise<UpstreamBody> {
  const type = given.contentType ?? headers['content-type']
  const body = given.body === undefined ? parsed : given.body
  if (body === null) return { body, replaced: { type: undefined } }
  if (body === undefined || body === raw) return { body: await clientBody(raw, limit, bufferBytes) }
  if (isStream(body)) return { body: bounded(body, limit), replaced: { type } }
  const isJson = type !== undefined && /^\s*application\/(?:[\w.-]+\+)?json\b/i.test(type)
  // A parsed JSON text must not become the object that it may contain.
  const isText = typeof body === 'string' && !(isJson && given.body === undefined)
  if (isText || body instanceof Uint8Array) {
    return { body: Buffer.from(body as string), replaced: { type } }
  }
  const isForm = given.body === undefined && type?.startsWith('application/x-www-form-urlencoded')
  if (isForm) return { body: Buffer.from(stringify(body as Record<string, string>)), replaced: { type } }
  const json = { type: given.contentType ?? (isJson && given.body === undefined ? type : 'application/json') }
  return { body: Buffer.from(JSON.stringify(body)), replaced: json }
}

const isStream = (body: unknown): body is Readable => typeof (body as Readable | undefined)?.pipe === 'function'

async function clientBody(
  raw: FastifyRequest['raw'],
  limit: number,
  bufferBytes: number,
): Promise<UpstreamBody['body']> {
  const length = bodyLength(raw)
  if (Number.isNaN(length)) throw invalid('Transfer-Encoding')
  if (length === 0) return null
  if (limit > 0 && length !== Number.POSITIVE_INFINITY && length > limit) throw tooLarge(limit)
  const stream = streamBody(raw, limit, () => {})
  if (length > bufferBytes) return stream
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  if (!raw.complete) throw clientGone()
  return Buffer.concat(chunks)
}

async function* bounded(body: Readable, limit: number): AsyncGenerator<Buffer> {
  let length = 0
  for await (const chunk of body) {
    const bytes = Buffer.from(chunk)
    length += bytes.length
    if (limit > 0 && length > limit) throw tooLarge(limit)
    yield bytes
  }
}

const tooLarge = (limit: number): FleetError => new FleetError('FLEET_ERR_BODY_TOO_LARGE', `at most ${limit} bytes`)
