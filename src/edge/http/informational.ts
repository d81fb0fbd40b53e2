import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { isHttp2 } from './node-server.ts'
import type { UpstreamHead } from './wire/response-head.ts'

/** A session with more queued frames than this has a client that does not read. */
const maxQueuedFrames = 64

/** Longest `Link` line that is forwarded as an early hint, in bytes. */
const maxLinkBytes = 8192

/**
 * A subset of what `writeEarlyHints` accepts. Node throws on other values, and its own regular expression takes exponential
 * time on some of them.
 */
const hintable = /^<[^>]*>(?: *; *[^;"= ]+(?:=(?:[^;" ]+|"[^;" ]*"))?)*$/
const ascii = /^[\x20-\x7e]+$/

/** The elements of `Link` that Node can send as early hints. A line may be a list (RFC 8288 section 3). */
export const hintedLinks = (value: string | string[] | undefined): string[] =>
  [value ?? []]
    .flat()
    .filter((line) => line.length <= maxLinkBytes)
    .flatMap(elementsOf)
    .filter((element) => ascii.test(element) && hintable.test(element))

/** Splits a list at its commas, except within a URI or within quotes. */
function elementsOf(line: string): string[] {
  const elements: string[] = []
  let start = 0
  let closer = ''
  for (let i = 0; i <= line.length; i++) {
    const char = line[i]
    if (closer === '"' && char === '\\') i++
    else if (closer !== '') closer = char === closer ? '' : closer
    else if (char === '<') closer = '>'
    else if (char === '"') closer = '"'
    else if (char === ',' || char === undefined) {
      elements.push(line.slice(start, i).trim())
      start = i + 1
    }
  }
  return elements
}

/** Forwards 102 and 103, except to clients that do not read and to HTTP/1.0 clients, which do not know 1xx. */
export function sendInformational(
  request: IncomingMessage,
  response: ServerResponse,
  { status, headers }: UpstreamHead,
): void {
  const links = status === 103 ? hintedLinks(headers.link) : []
  if (status !== 102 && links.length === 0) return
  if (isHttp2(request)) {
    const { stream } = response as unknown as { stream: ServerHttp2Stream }
    if (stream.destroyed || stream.closed || stream.headersSent) return
    if ((stream.session?.state.outboundQueueSize ?? 0) > maxQueuedFrames) return
    stream.additionalHeaders(status === 102 ? { ':status': 102 } : { ':status': 103, link: links.join(', ') })
    return
  }
  // A pipelined response without a socket still waits for those before it.
  const socket = response.socket
  if (request.httpVersion !== '1.1' || !socket || socket.writableLength > 0) return
  if (status === 102) response.writeProcessing()
  else response.writeEarlyHints({ link: links })
}
