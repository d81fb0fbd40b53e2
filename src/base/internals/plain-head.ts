import type { ServerResponse } from 'node:http'
import { http } from './node-http.ts'

/** A head that was checked when it was read. */
interface CheckedHead {
  readonly status: number
  readonly message: string
  /** How the body ends: after so many bytes, with its last chunk, or with the connection (RFC 9112, section 6.3). */
  readonly framing: number | 'chunked' | 'close'
  /** The header lines to forward, each with its line end. */
  lines(): string
  has(name: string): boolean
}

/** Fields of a Node response after its head was written. None is documented, but many middlewares rely on `_header`. */
interface Begun {
  statusCode: number
  chunkedEncoding: boolean
  _header: string
  _headerSent: boolean
  _hasBody: boolean
  _last: boolean
}

/**
 * Writes the head of an HTTP/1.1 response like `writeHead`, without validating each header again, which costs as much as
 * reading them.
 *
 * @param persistence lines that say how long the connection is kept; undefined: it closes after this response
 */
export function writePlainHead(response: ServerResponse, head: CheckedHead, persistence: string | undefined): void {
  const { status, message, framing } = head
  const begun = response as unknown as Begun
  let text = `HTTP/1.1 ${status} ${message || (http.STATUS_CODES[status] ?? 'unknown')}\r\n${head.lines()}`
  if (!head.has('date')) text += `date: ${new Date().toUTCString()}\r\n`
  if (status === 204 || status === 304) begun._hasBody = false
  if (begun._hasBody && typeof framing !== 'number') {
    begun.chunkedEncoding = true
    text += 'transfer-encoding: chunked\r\n'
  }
  begun.statusCode = status
  if (persistence === undefined) begun._last = true
  begun._header = `${text}${persistence ?? 'connection: close\r\n'}\r\n`
  begun._headerSent = false
}

/** @param keepAliveMs keep-alive timeout of the server, ms; 0: no timeout */
export const persistenceLines = (keepAliveMs: number): string =>
  `connection: keep-alive\r\n${keepAliveMs > 0 ? `keep-alive: timeout=${Math.floor(keepAliveMs / 1000)}\r\n` : ''}`
