import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants, type ServerHttp2Stream } from 'node:http2'
import { FleetError } from '../../base/errors.ts'
import { canWritePlainHead, writePlainHead } from '../../base/internals/plain-head.ts'
import { resetConnection } from '../../base/socket-bounds.ts'
import type { PickInput } from '../balancer/policies/index.ts'
import { caught, guard } from '../boundary.ts'
import { asFleetError, errorPage } from './error-page.ts'
import { type HeaderFields, nominatedBy, responseHeaders } from './headers.ts'
import { http2Fields, isHttp2Status } from './http2-fields.ts'
import { sendInformational } from './informational.ts'
import { isHttp2 } from './node-server.ts'
import { endResponse } from './request-body.ts'
import { responseTrailers } from './trailers.ts'
import { noTrailers } from './wire/fields.ts'
import { type HeadHandler, ResponseHead, type UpstreamController, type UpstreamHead } from './wire/response-head.ts'

/** Settings that all responses of one proxy share. */
export interface ResponseContext {
  readonly closing: boolean
  /** A client that reads nothing for this long is disconnected, in milliseconds. */
  readonly sendTimeoutMs: number
  /** The header lines that announce the keep-alive time. */
  readonly persistence: string
}

/** Longest body that is written together with its headers when both arrive at once, in bytes. */
const smallBytes = 8192

/**
 * Writes an upstream's response to the client. Headers and body that arrive in one turn of the event loop are written
 * together where possible: most responses are small, and the write to the socket is the most expensive step.
 */
export class ClientResponse implements HeadHandler {
  readonly #context: ResponseContext
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #input: PickInput
  #controller: UpstreamController | undefined
  /** The headers are not written yet; the first chunk of the body may join them. */
  #waiting = false
  #first: Buffer | undefined
  #stalled: NodeJS.Timeout | undefined
  #failed = false
  /** A 205 over HTTP/2: Node ends it with its headers. */
  #bodiless = false
  /** `Connection` of the head; the fields that it names are dropped from the trailers too. */
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
    else sendInformational(this.#request, this.#response, head)
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
    // Node writes headers and a string at once, but headers and a buffer separately.
    endResponse(this.#request, response, first && first.length <= smallBytes ? first.toString('latin1') : first)
  }

  onResponseError(_: UpstreamController | null, error: Error): void {
    this.#failed = true
    this.#waiting = false
    clearTimeout(this.#stalled)
    // An incomplete response must not look complete.
    if (this.#response.headersSent) breakOff(this.#request, this.#response)
    else sendError(this.#request, this.#response, asFleetError(error))
  }

  /** Writes everything that has arrived. */
  flush(): void {
    if (!this.#waiting) return
    this.#waiting = false
    if (this.#first) this.#write(this.#first)
    else this.#response.flushHeaders()
    this.#first = undefined
  }

  /** Ends the response after an internal error, which the upstream did not cause. */
  crashed(error: Error): void {
    // An exchange that is not done calls onResponseError.
    this.#controller?.abort(error)
    if (!this.#failed) this.onResponseError(null, error)
  }

  #begin(head: UpstreamHead): void {
    const { setCookie } = this.#input
    // After a response to an incomplete request, unread bytes remain on the connection.
    const close = this.#context.closing || !this.#request.complete
    if (!isHttp2Status(head.status) && isHttp2(this.#request)) {
      const detail = `status ${head.status} cannot be sent over HTTP/2`
      this.#controller?.abort(new FleetError('FLEET_ERR_UPSTREAM_FAILED', detail))
      return
    }
    // A cookie may come from an application's own policy, so Node validates it.
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
        // RFC 9110 section 8.6: a client might wait for a body that never comes.
        status === 204 || this.#bodiless ? 'content-length' : '',
      )
      if (setCookie !== undefined) out.push('set-cookie', setCookie)
      writeHead(this.#request, this.#response, status, out, close, head.message)
    }
    this.#waiting = true
    process.nextTick(flush, this)
  }

  /** @param flat list: name, value, name, … */
  #addTrailers(flat: readonly string[]): void {
    const pairs: [string, string][] = []
    for (let i = 0; i < flat.length; i += 2) pairs.push([flat[i] as string, flat[i + 1] as string])
    if (pairs.length === 0) return
    if (isHttp2(this.#request)) this.#response.addTrailers(http2Fields(flat) as Record<string, string>)
    // One call, because a second call would replace the first.
    else this.#response.addTrailers(pairs)
  }

  #write(chunk: Buffer): void {
    if (this.#response.write(chunk) || this.#stalled) return
    this.#controller?.pause()
    this.#expectDrain()
  }

  /** Cuts the response of a client that does not read. */
  #expectDrain(): void {
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

function flush(response: ClientResponse): void {
  try {
    response.flush()
  } catch (error) {
    caught('the writing of a response', error, (reason) => response.crashed(reason))
  }
}

/** Both sides are HTTP/1.1, and only the hop-by-hop fields have to be removed. */
const isPlain = ({ httpVersion, headers }: IncomingMessage, head: ResponseHead): boolean =>
  canWritePlainHead() &&
  httpVersion === '1.1' &&
  headers.expect === undefined &&
  nominatedBy(head.connection) === undefined &&
  (head.status !== 204 || !head.has('content-length'))

/** Node throws when `trailer` is sent with a response that cannot have trailers. */
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

/** Ends an incomplete response so that the client can tell that it is incomplete. */
export function breakOff(request: IncomingMessage, response: ServerResponse): void {
  const { stream } = response as unknown as { stream?: ServerHttp2Stream }
  if (stream) stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  // If only the end of the connection ends the response, it must be a reset. TLS has its own end marker.
  else if (request.httpVersion === '1.0' && response.socket && !('encrypted' in response.socket)) {
    resetConnection(response.socket)
  } else response.destroy()
}

/** @param headers flat list, which is modified @param close announce that the connection ends with this response */
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
