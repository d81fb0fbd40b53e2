import { HeaderLines } from '../headers.ts'

/** A request that needs no checking any more: its parts come from Node's parser, and from this proxy. */
export interface WireRequest {
  readonly method: string
  readonly path: string
  /** Names in lower case and values in turn, or as they are written. */
  readonly headers: readonly string[] | HeaderLines
  readonly body: Buffer | null
  /** Ask the server to refuse rather than to work while it drains. */
  readonly rejectable: boolean
}

/** The head of a request, with the empty line that ends it. */
export function requestText({ method, path, headers, body, rejectable }: WireRequest): string {
  const lines = (headers instanceof HeaderLines ? headers : new HeaderLines(headers)).text
  let text = `${method} ${path} HTTP/1.1\r\nconnection: keep-alive\r\n${lines}`
  const length = body?.length ?? 0
  // Methods that mean something with a body say so when there is none (RFC 9110 section 8.6).
  const measured = length > 0 || method === 'POST' || method === 'PUT' || method === 'PATCH'
  if (measured && !`\n${lines}`.includes('\ncontent-length: ')) text += `content-length: ${length}\r\n`
  return text + (rejectable ? 'x-fleet-retry: 1\r\n\r\n' : '\r\n')
}
