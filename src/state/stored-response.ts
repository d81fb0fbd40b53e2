import type { FastifyReply } from 'fastify'

export type Headers = Partial<ReturnType<FastifyReply['getHeaders']>>

/** What a handler answered, as it can be kept and given again. */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  /** Base64 when `encoded`; `undefined` when it could not be kept: too large, or a stream. */
  readonly body?: string
  readonly encoded?: boolean
}

/**
 * Headers that belong to one response, one connection or one client, and not to the answer. A cookie is a secret that
 * was delivered once, to whom it was meant for.
 */
const fleeting = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'content-length', 'trailer', 'upgrade'],
  ...['date', 'set-cookie', 'retry-after', 'server-timing', 'x-response-time', 'x-request-id', 'traceparent'],
  ...['ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset', 'x-fleet-draining'],
])

/**
 * The headers that the handler gave its answer.
 *
 * @param before those that were there when it began; hooks set them for every response, and will again
 */
export function ownHeaders(reply: FastifyReply, before: Headers): Headers {
  const changed = Object.entries(reply.getHeaders()).filter(
    ([name, value]) => value !== undefined && value !== before[name] && !fleeting.has(name),
  )
  return Object.fromEntries(changed)
}

/** @returns `undefined` for what is no answer, as somebody else may have written it */
export function answerOf(json: string): Answer | undefined {
  try {
    const answer: unknown = JSON.parse(json)
    return isAnswer(answer) ? answer : undefined
  } catch {
    return undefined
  }
}

export function isAnswer(value: unknown): value is Answer {
  const { status, headers, body, encoded } = (value ?? {}) as Partial<Answer>
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

/** What Node lets into a response. */
const isHeader = ([name, value]: [string, unknown]): boolean =>
  /^[\w!#$%&'*+.^`|~-]+$/.test(name) &&
  [value]
    .flat()
    .every((one) => typeof one === 'number' || (typeof one === 'string' && /^[\t\x20-\x7e\x80-\xff]*$/.test(one)))

export function describe(reply: FastifyReply, before: Headers, payload: unknown, maxBytes: number): Answer {
  const answer = { status: reply.statusCode, headers: ownHeaders(reply, before) }
  if (payload === undefined || payload === null) return { ...answer, body: '' }
  if (typeof payload === 'string' && Buffer.byteLength(payload) <= maxBytes) return { ...answer, body: payload }
  if (Buffer.isBuffer(payload) && payload.length <= maxBytes)
    return { ...answer, body: payload.toString('base64'), encoded: true }
  return answer
}

/** As bytes, because a string would be serialised once more. */
export function bytesOf({ body, encoded }: Answer): Buffer | undefined {
  return body ? Buffer.from(body, encoded ? 'base64' : 'utf8') : undefined
}
