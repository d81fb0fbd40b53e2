import { HeaderLines } from '../headers.ts'

/** A request whose parts need no validation, because they come from Node's parser and from this proxy. */
export interface WireRequest {
  readonly method: string
  readonly path: string
  /** A flat list of lower-case names and values, or the text of the lines. */
  readonly headers: readonly string[] | HeaderLines
  readonly body: Buffer | null
  /** Ask the server to reject the request instead of serving it while it drains (`X-Fleet-Retry`). */
  readonly rejectable: boolean
}

/** The head of a request, with the empty line that ends it. */
export function requestText({ method, path, headers, body, rejectable }: WireRequest): string {
  const lines = (headers instanceof HeaderLines ? headers : new HeaderLines(headers)).text
  let text = `${method} ${path} HTTP/1.1\r\nconnection: keep-alive\r\n${lines}`
  const length = body?.length ?? 0
  // Methods that usually have a body send a length of 0 without one (RFC 9110 section 8.6).
  const needsLength = length > 0 || method === 'POST' || method === 'PUT' || method === 'PATCH'
  if (needsLength && !`\n${lines}`.includes('\ncontent-length: ')) text += `content-length: ${length}\r\n`
  return text + (rejectable ? 'x-fleet-retry: 1\r\n\r\n' : '\r\n')
}
