// Touches: `_storeHeader`, as in header-text.ts; `_header` and `_hasBody` of a `ServerResponse` after `writeHead`.
// Seen in: Node 22 to 24.
// Worth: not settled, -6 to 11 % of the CPU time of a shed request; see docs/benchmarks.md.
// Fallback: `writeHead(status, headers)` and `end(body)`, selected by the self-test of header-text.ts, or used when a field
//   has another type.

import type { ServerResponse } from 'node:http'
import { isTextUsable, type StoreHeader, storeHeader, textOf } from './header-text.ts'
import { http } from './node-http.ts'
import { shortcuts } from './shortcuts.ts'

type Internal = ServerResponse & { _storeHeader?: StoreHeader; _header?: unknown; _hasBody?: unknown }

/**
 * Returns a function that sends the same response each time. Its headers are joined once, and head and body are written as
 * one string.
 *
 * @param headers valid headers, which are not checked again
 */
export function constantResponse(
  status: number,
  headers: Readonly<Record<string, string>>,
  body: string,
): (response: ServerResponse) => void {
  const length = String(Buffer.byteLength(body))
  const all = { ...headers, 'content-length': length }
  // Node writes a head as Latin-1.
  const isAscii = Buffer.byteLength(body) === body.length
  const isUsable = shortcuts.constantResponse && isAscii && isTextUsable()
  const text = textOf(Object.entries(headers))
  // If a response has other headers as well, `writeHead` passes on a different object. Node has to see the length, or it
  // would send chunks.
  function storeText(this: ServerResponse, statusLine: string, given: unknown): void {
    if (given === all) storeHeader?.call(this, statusLine + text, ['content-length', length])
    else storeHeader?.call(this, statusLine, given)
  }
  return (response: Internal) => {
    // HTTP/2 responses have no text.
    const isText = isUsable && '_storeHeader' in response
    if (isText) response._storeHeader = storeText
    response.writeHead(status, all)
    // There is no body for HEAD. Others may have replaced `end`.
    const isPlain = response.end === http.OutgoingMessage.prototype.end
    if (!isText || !isPlain || typeof response._header !== 'string' || response._hasBody !== true) {
      response.end(body)
      return
    }
    response._header += body
    response.end()
  }
}
