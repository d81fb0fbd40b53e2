import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { isHttp2 } from './node-server.ts'
import type { UpstreamHead } from './wire/response-head.ts'

/** A session with more frames than this in its queue has a client that does not read. */
const maxQueuedFrames = 64

/** Longer `Link` lines are not passed on as early hints, in bytes. */
const maxLinkBytes = 8192

/**
 * A stricter form of what `writeEarlyHints` accepts. Node throws on anything else, and its own expression takes exponential
 * time on some of it.
 */
const hintable = /^<[^>]*>(?: *; *[^;"= ]+(?:=(?:[^;" ]+|"[^;" ]*"))?)*$/
const ascii = /^[\x20-\x7e]+$/

/** The elements of `Link` that can be sent as early hints. A line may be a list (RFC 8288 section 3). */
export const hintedLinks = (value: string | string[] | undefined): string[] =>
  [value ?? []]
    .flat()
    .filter((line) => line.length <= maxLinkBytes)
    .flatMap(elementsOf)
    .filter((element) => ascii.test(element) && hintable.test(element))

/** Commas within a URI or within quotes do not separate. */
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

/** Passes on 102 and 103; neither to a client that does not read, nor to one of HTTP/1.0, which knows no 1xx. */
export function inform(request: IncomingMessage, response: ServerResponse, { status, headers }: UpstreamHead): void {
  const links = status === 103 ? hintedLinks(headers.link) : []
  if (status !== 102 && links.length === 0) return
  if (isHttp2(request)) {
    const { stream } = response as unknown as { stream: ServerHttp2Stream }
    if (stream.destroyed || stream.closed || stream.headersSent) return
    if ((stream.session?.state.outboundQueueSize ?? 0) > maxQueuedFrames) return
    stream.additionalHeaders(status === 102 ? { ':status': 102 } : { ':status': 103, link: links.join(', ') })
    return
  }
  // Without a socket it waits for the responses before it (pipelining).
  const socket = response.socket
  if (request.httpVersion !== '1.1' || !socket || socket.writableLength > 0) return
  if (status === 102) response.writeProcessing()
  else response.writeEarlyHints({ link: links })
}
