// Touches: `_header` and `_hasBody` of a `ServerResponse` whose head was written with `writeHead`.
// Seen in: Node 22 to 24.
// Worth: given to `end`, a body is buffered and then written together with the head as a list of two chunks.
// Fallback: `response.end(body)`, used when a field has another type.

import type { ServerResponse } from 'node:http'
import { http } from './node-http.ts'
import { shortcuts } from './shortcuts.ts'

interface Head {
  _header?: unknown
  _hasBody?: unknown
}

/** Ends a response after `writeHead` with `Content-Length`; head and body are written as one string. */
export function endWithBody(response: ServerResponse, body: string): void {
  const head = response as Head
  const isPlain = response.end === http.OutgoingMessage.prototype.end
  if (!shortcuts.responseBody || !isPlain || typeof head._header !== 'string' || head._hasBody !== true) {
    response.end(body)
    return
  }
  head._header += body
  response.end()
}
