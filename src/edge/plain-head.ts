import type { ServerResponse } from 'node:http'
import { http } from '../base/node-http.ts'
import type { ResponseHead } from './wire/response-head.ts'

/** What Node keeps of an answer that has begun; nothing here is documented, but `_header` is what middlewares go by. */
interface Begun {
  statusCode: number
  chunkedEncoding: boolean
  _header: string
  _headerSent: boolean
  _hasBody: boolean
  _last: boolean
}

/**
 * Begins an answer in HTTP/1.1 with a head that was checked when it was read. It does what `writeHead` does, but for looking
 * at each header again: that costs as much as reading them.
 *
 * @param persistence lines that say how long the connection is kept; undefined: it ends with this answer
 */
export function writePlainHead(response: ServerResponse, head: ResponseHead, persistence: string | undefined): void {
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

/** @param keepAliveMs as the server has it; 0: for ever */
export const persistenceLines = (keepAliveMs: number): string =>
  `connection: keep-alive\r\n${keepAliveMs > 0 ? `keep-alive: timeout=${Math.floor(keepAliveMs / 1000)}\r\n` : ''}`
