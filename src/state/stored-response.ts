import type { FastifyReply } from 'fastify'

export type StoredHeaders = Partial<ReturnType<FastifyReply['getHeaders']>>

/** A handler's response in a form that can be stored and sent again. */
export interface StoredResponse {
  readonly status: number
  readonly headers: StoredHeaders
  /** Base64 if `encoded`; `undefined` if it cannot be stored: too large, or a stream. */
  readonly body?: string
  readonly encoded?: boolean
}

/**
 * Headers that belong to one connection, one client or one sending of a response. They are not stored. A cookie is a secret
 * that only its first recipient may have.
 */
const transientHeaders = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'content-length', 'trailer', 'upgrade'],
  ...['date', 'set-cookie', 'retry-after', 'server-timing', 'x-response-time', 'x-request-id', 'traceparent'],
  ...['ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset', 'x-fleet-draining'],
])

/**
 * The headers that the handler set.
 *
 * @param before the headers before the handler ran; hooks set them for every response, and again for a stored one
 */
export function handlerHeaders(reply: FastifyReply, before: StoredHeaders): StoredHeaders {
  const changed = Object.entries(reply.getHeaders()).filter(
    ([name, value]) => value !== undefined && value !== before[name] && !transientHeaders.has(name),
  )
  return Object.fromEntries(changed)
}

/** @returns `undefined` for any other content, which another application may have written */
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

/** @param payload as `onSend` gets it; omitted from the result if it is a stream or larger than `maxBytes` */
export function captureResponse(
  reply: FastifyReply,
  before: StoredHeaders,
  payload: unknown,
  maxBytes: number,
): StoredResponse {
  const response = { status: reply.statusCode, headers: handlerHeaders(reply, before) }
  if (payload === undefined || payload === null) return { ...response, body: '' }
  if (typeof payload === 'string' && Buffer.byteLength(payload) <= maxBytes) return { ...response, body: payload }
  if (Buffer.isBuffer(payload) && payload.length <= maxBytes)
    return { ...response, body: payload.toString('base64'), encoded: true }
  return response
}

/** The body as bytes, because Fastify would serialize a string again. */
export function bodyOf({ body, encoded }: StoredResponse): Buffer | undefined {
  return body ? Buffer.from(body, encoded ? 'base64' : 'utf8') : undefined
}
