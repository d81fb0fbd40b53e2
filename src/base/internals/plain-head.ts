// Touches: `_header`, `_headerSent`, `_hasBody`, `_last` and `chunkedEncoding` of a `ServerResponse`.
// Seen in: Node 22 to 24. None is documented, but many middlewares depend on `_header`.
// Worth: 12 % of the CPU time of a proxied hello. `writeHead` would validate each header again.
// Fallback: the caller uses `writeHead`. A self-test at first use selects it.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { http } from './node-http.ts'
import { shortcuts } from './shortcuts.ts'

/** A response head that was validated when it was read. */
interface CheckedHead {
  readonly status: number
  readonly message: string
  /** End of the body: after this many bytes, with the last chunk, or with the connection (RFC 9112, section 6.3). */
  readonly framing: number | 'chunked' | 'close'
  /** The header lines to forward, each with its line end. */
  lines(): string
  has(name: string): boolean
}

/** Fields of a Node response after its head was written. */
interface StartedResponse {
  statusCode: number
  chunkedEncoding: boolean
  _header: string
  _headerSent: boolean
  _hasBody: boolean
  _last: boolean
}

let works: boolean | undefined

/** Whether {@link writePlainHead} can be used. */
export function canWritePlainHead(): boolean {
  works ??= selfTest()
  return works && shortcuts.plainHead
}

/** Whether `writeHead` sets the fields as {@link writePlainHead} does. */
function selfTest(): boolean {
  try {
    const response = new http.ServerResponse({ method: 'GET', httpVersionMajor: 1 } as IncomingMessage)
    response.sendDate = false
    const fields = response as unknown as StartedResponse
    const hadBody = fields._hasBody
    response.shouldKeepAlive = false
    response.writeHead(204, 'No', { 'x-text': '1' })
    return (
      fields._header === 'HTTP/1.1 204 No\r\nx-text: 1\r\nConnection: close\r\n\r\n' &&
      fields._headerSent === false &&
      hadBody === true &&
      fields._hasBody === false &&
      fields._last === true &&
      fields.chunkedEncoding === false
    )
  } catch {
    return false
  }
}

/**
 * Writes the head of an HTTP/1.1 response like `writeHead`, without validating each header again.
 *
 * @param persistence header lines about keep-alive; undefined closes the connection after this response
 */
export function writePlainHead(response: ServerResponse, head: CheckedHead, persistence: string | undefined): void {
  const { status, message, framing } = head
  const started = response as unknown as StartedResponse
  let text = `HTTP/1.1 ${status} ${message || (http.STATUS_CODES[status] ?? 'unknown')}\r\n${head.lines()}`
  if (!head.has('date')) text += `date: ${new Date().toUTCString()}\r\n`
  if (status === 204 || status === 304) started._hasBody = false
  if (started._hasBody && typeof framing !== 'number') {
    started.chunkedEncoding = true
    text += 'transfer-encoding: chunked\r\n'
  }
  started.statusCode = status
  if (persistence === undefined) started._last = true
  started._header = `${text}${persistence ?? 'connection: close\r\n'}\r\n`
  started._headerSent = false
}

/** @param keepAliveMs keep-alive timeout of the server, ms; 0: no timeout */
export const persistenceLines = (keepAliveMs: number): string =>
  `connection: keep-alive\r\n${keepAliveMs > 0 ? `keep-alive: timeout=${Math.floor(keepAliveMs / 1000)}\r\n` : ''}`
