import type { FastifyReply } from 'fastify'

export type StoredHeaders = Partial<ReturnType<FastifyReply['getHeaders']>>

/** A response in a form that can be stored and sent again. */
export interface StoredResponse {
  readonly status: number
  readonly headers: StoredHeaders
  /** Base64 if `encoded`; `undefined` if it cannot be stored, because it is too large or a stream. */
  readonly body?: string
  readonly encoded?: boolean
}

/**
 * Headers that belong to one transmission, one connection or one client, so they are not stored. A cookie is a secret for the
 * client that first received the response.
 */
const excludedHeaders = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'content-length', 'trailer', 'upgrade'],
  ...['date', 'set-cookie', 'retry-after', 'server-timing', 'x-response-time', 'x-request-id', 'traceparent'],
  ...['ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset', 'x-fleet-draining'],
])

/**
 * The headers that the handler has set.
 *
 * @param before headers that were set before the handler ran; hooks set those for every response
 */
export function ownHeaders(reply: FastifyReply, before: StoredHeaders): StoredHeaders {
  const changed = Object.entries(reply.getHeaders()).filter(
    ([name, value]) => value !== undefined && value !== before[name] && !excludedHeaders.has(name),
  )
  return Object.fromEntries(changed)
}

/** @returns `undefined` if another program wrote something else */
export function parseStoredResponse(json: string): StoredResponse | undefined {
  try {
    const response: unknown = JSON.parse(json)
    return isStoredResponse(response) ? response : undefined
  } catch {
    return undefined
  }
}

export function isStoredResponse(value: unknown): value is StoredResponse {
  const { status, headers, body, encoded } = (value ?? {}) as Partial<StoredResponse>
  return (
    Number.isInteger(status) &&
    (status as number) >= 200 &&
    (status as number) <= 599 &&
    typeof headers === 'object' &&
    headers !== null &&
    Object.entries(headers).every(isHeader) &&
    (body === undefined || typeof body === 'string') &&
    (encoded === undefined || typeof encoded === 'boolean')
  )
}

/** Whether Node accepts the header. */
const isHeader = ([name, value]: [string, unknown]): boolean =>
  /^[\w!#$%&'*+.^`|~-]+$/.test(name) &&
  [value]
    .flat()
    .every((one) => typeof one === 'number' || (typeof one === 'string' && /^[\t\x20-\x7e\x80-\xff]*$/.test(one)))

export function toStoredResponse(
  reply: FastifyReply,
  before: StoredHeaders,
  payload: unknown,
  maxBytes: number,
): StoredResponse {
  const response = { status: reply.statusCode, headers: ownHeaders(reply, before) }
  if (payload === undefined || payload === null) return { ...response, body: '' }
  if (typeof payload === 'string' && Buffer.byteLength(payload) <= maxBytes) return { ...response, body: payload }
  if (Buffer.isBuffer(payload) && payload.length <= maxBytes)
    return { ...response, body: payload.toString('base64'), encoded: true }
  return response
}

/** The body as bytes, because Fastify would serialise a string again. */
export function bytesOf({ body, encoded }: StoredResponse): Buffer | undefined {
  return body ? Buffer.from(body, encoded ? 'base64' : 'utf8') : undefined
}
