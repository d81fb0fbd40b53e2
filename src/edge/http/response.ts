import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants, type ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { FleetError } from '../../base/errors.ts'
import { writePlainHead } from '../../base/internals/plain-head.ts'
import type { PickInput } from '../balancer/policies/index.ts'
import { caught, guard } from '../boundary.ts'
import { asFleetError, errorPage } from './error-page.ts'
import { nominatedBy, responseHeaders } from './headers.ts'
import { http2Fields, isHttp2Status } from './http2-fields.ts'
import { inform } from './informational.ts'
import { isHttp2 } from './node-server.ts'
import { endResponse } from './request-body.ts'
import { responseTrailers } from './trailers.ts'
import { type HeaderFields, noTrailers } from './wire/fields.ts'
import { type HeadHandler, ResponseHead, type UpstreamController, type UpstreamHead } from './wire/response-head.ts'

/** What the answers of one proxy share. */
export interface ResponseContext {
  readonly closing: boolean
  /** A client that takes nothing for this long is cut off, in milliseconds. */
  readonly sendTimeoutMs: number
  /** Lines of a head that tell a client how long its connection is kept. */
  readonly persistence: string
}

/** A body up to this length that comes at once with its headers is written together with them, in bytes. */
const smallBytes = 8192

/**
 * The way back: an upstream's answer into a client's response. What comes within one turn of the event loop is written
 * in one piece where that is possible: most answers are small, and a write to a socket is what costs most.
 */
export class ClientResponse implements HeadHandler {
  readonly #context: ResponseContext
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #input: PickInput
  #controller: UpstreamController | undefined
  /** The headers wait for the first piece of the body. */
  #waiting = false
  #first: Buffer | undefined
  #stalled: NodeJS.Timeout | undefined
  #failed = false
  /** A 205 over HTTP/2, which Node ends with its headers. */
  #bodiless = false
  /** `Connection` of the head, whose names its trailers must not have either. */
  #connection: string | string[] | undefined

  constructor(context: ResponseContext, request: IncomingMessage, response: ServerResponse, input: PickInput) {
    this.#context = context
    this.#request = request
    this.#response = response
    this.#input = input
  }

  onRequestStart(controller: UpstreamController): void {
    this.#controller = controller
  }

  onResponseHead(_: UpstreamController, head: UpstreamHead): void {
    if (head.status >= 200) this.#begin(head)
    else inform(this.#request, this.#response, head)
  }

  onResponseData(_: UpstreamController, chunk: Buffer): void {
    if (this.#bodiless) return
    if (this.#waiting && !this.#first) {
      this.#first = chunk
      return
    }
    this.flush()
    this.#write(chunk)
  }

  onResponseEnd(_: UpstreamController, trailers: HeaderFields): void {
    const response = this.#response
    const first = this.#waiting ? this.#first : undefined
    this.#waiting = false
    if (trailers !== noTrailers) this.#addTrailers(responseTrailers(trailers, this.#connection))
    // Node joins a string with the headers into one write; of a buffer it makes two.
    endResponse(this.#request, response, first && first.length <= smallBytes ? first.toString('latin1') : first)
  }

  onResponseError(_: UpstreamController | null, error: Error): void {
    this.#failed = true
    this.#waiting = false
    clearTimeout(this.#stalled)
    // Half an answer must not look like a whole one.
    if (this.#response.headersSent) breakOff(this.#request, this.#response)
    else sendError(this.#request, this.#response, asFleetError(error))
  }

  /** What came so far goes out. */
  flush(): void {
    if (!this.#waiting) return
    this.#waiting = false
    if (this.#first) this.#write(this.#first)
    else this.#response.flushHeaders()
    this.#first = undefined
  }

  /** Something went wrong here, not at the upstream. */
  crashed(error: Error): void {
    // An exchange that is not over reports it back as an error.
    this.#controller?.abort(error)
    if (!this.#failed) this.onResponseError(null, error)
  }

  #begin(head: UpstreamHead): void {
    const { setCookie } = this.#input
    // An answer that comes before the request is complete leaves bytes on the connection that nobody will read.
    const close = this.#context.closing || !this.#request.complete
    if (!isHttp2Status(head.status) && isHttp2(this.#request)) {
      const detail = `status ${head.status} cannot be sent over HTTP/2`
      this.#controller?.abort(new FleetError('FLEET_ERR_UPSTREAM_FAILED', detail))
      return
    }
    // A policy may be anybody's: Node looks at its cookie.
    if (head instanceof ResponseHead && setCookie === undefined && isPlain(this.#request, head)) {
      const last = close || !this.#response.shouldKeepAlive
      writePlainHead(this.#response, head, last ? undefined : this.#context.persistence)
    } else {
      const { status, headers } = head
      this.#connection = headers.connection
      this.#bodiless = status === 205 && isHttp2(this.#request)
      const out = responseHeaders(
        headers,
        mayHaveTrailers(this.#request, head) ? '' : 'trailer',
        // RFC 9110 section 8.6. A client that believed it would wait for bytes that are none of this response.
        status === 204 || this.#bodiless ? 'content-length' : '',
      )
      if (setCookie !== undefined) out.push('set-cookie', setCookie)
      writeHead(this.#request, this.#response, status, out, close, head.message)
    }
    this.#waiting = true
    process.nextTick(flush, this)
  }

  /** @param flat names and values in turn */
  #addTrailers(flat: readonly string[]): void {
    const pairs: [string, string][] = []
    for (let i = 0; i < flat.length; i += 2) pairs.push([flat[i] as string, flat[i + 1] as string])
    if (pairs.length === 0) return
    if (isHttp2(this.#request)) this.#response.addTrailers(http2Fields(flat) as Record<string, string>)
    // All at once: a second call takes the place of the first one.
    else this.#response.addTrailers(pairs)
  }

  #write(chunk: Buffer): void {
    if (this.#response.write(chunk) || this.#stalled) return
    this.#controller?.pause()
    this.#expectDrain()
  }

  /** A client that does not read is cut off, and its answer with it. */
  #expectDrain(): void {
    if (this.#stalled) return
    const response = this.#response
    const cut = guard(
      'the end of a stalled response',
      () => breakOff(this.#request, response),
      () => response.destroy(),
    )
    this.#stalled = setTimeout(cut, this.#context.sendTimeoutMs)
    const drained = guard(
      'the drain of a response',
      () => {
        clearTimeout(this.#stalled)
        this.#stalled = undefined
        response.removeListener('drain', drained).removeListener('close', drained)
        this.#controller?.resume()
      },
      (error) => this.crashed(error),
    )
    response.on('drain', drained).on('close', drained)
  }
}

function flush(answer: ClientResponse): void {
  try {
    answer.flush()
  } catch (error) {
    caught('the writing of a response', error, (reason) => answer.crashed(reason))
  }
}

/** Both sides are HTTP/1.1, and nothing in the head has to be taken out but what always is. */
const isPlain = ({ httpVersion, headers }: IncomingMessage, head: ResponseHead): boolean =>
  httpVersion === '1.1' &&
  headers.expect === undefined &&
  nominatedBy(head.connection) === undefined &&
  (head.status !== 204 || !head.has('content-length'))

/** Node throws when trailers are announced that cannot come. */
const mayHaveTrailers = (request: IncomingMessage, { status, headers }: UpstreamHead): boolean =>
  isHttp2(request) ||
  (request.httpVersion === '1.1' &&
    request.method !== 'HEAD' &&
    status !== 204 &&
    status !== 304 &&
    headers['content-length'] === undefined)

export function sendError(request: IncomingMessage, response: ServerResponse, error: FleetError): void {
  if (response.destroyed) return
  const page = errorPage(error, request.headers.accept)
  for (const name of response.getHeaderNames()) response.removeHeader(name)
  writeHead(request, response, page.status, [...page.headers], !request.complete)
  endResponse(request, response, request.method === 'HEAD' ? undefined : page.body)
}

/** Ends a response that is not complete, in a way that no client can take for its end. */
export function breakOff(request: IncomingMessage, response: ServerResponse): void {
  const { stream } = response as unknown as { stream?: ServerHttp2Stream }
  if (stream) stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  // Where only the end of the connection ends the response, it has to be a reset. TLS has an end of its own.
  else if (request.httpVersion === '1.0' && response.socket && !('encrypted' in response.socket)) {
    ;(response.socket as Socket).resetAndDestroy()
  } else response.destroy()
}

/** @param headers flat list, which is changed @param close say that the connection ends with this answer */
function writeHead(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  headers: string[],
  close: boolean,
  message?: string,
): void {
  if (isHttp2(request)) {
    // HTTP/2 has neither reason phrases nor a Connection header.
    response.writeHead(status, http2Fields(headers))
    return
  }
  if (close) headers.push('connection', 'close')
  response.writeHead(status, message || undefined, headers)
}
