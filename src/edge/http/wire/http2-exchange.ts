import { type ClientHttp2Session, type ClientHttp2Stream, constants, type IncomingHttpHeaders } from 'node:http2'
import { dictionary } from '../../../base/dictionary.ts'
import { undici } from '../../../base/internals/undici.ts'
import { guard } from '../../boundary.ts'
import type { HeaderFields } from '../headers.ts'
import type { WireOptions } from './connection.ts'
import { noTrailers } from './fields.ts'
import type { WireRequest } from './request-writer.ts'
import { type HeadHandler, passHead, type UpstreamController } from './response-head.ts'

/** An error after which the request was certainly not processed (RFC 9113 section 8.7). */
export class RefusedStreamError extends Error {
  readonly code = 'FLEET_STREAM_REFUSED'
}

/** One request and its response over an HTTP/2 connection. */
export class Http2Exchange implements UpstreamController {
  aborted = false
  paused = false
  reason: Error | null = null
  readonly #request: WireRequest
  readonly #handler: HeadHandler
  readonly #bounds: WireOptions
  readonly #onDone: () => void
  #stream: ClientHttp2Stream | undefined
  #timer: NodeJS.Timeout | undefined
  #started = false
  #done = false
  /** Bytes of the body that must still arrive, if the server has announced its length. */
  #left: number | undefined
  #trailers: HeaderFields = noTrailers

  constructor(request: WireRequest, handler: HeadHandler, bounds: WireOptions, onDone: () => void) {
    this.#request = request
    this.#handler = handler
    this.#bounds = bounds
    this.#onDone = onDone
  }

  start(session: ClientHttp2Session): void {
    const { body } = this.#request
    this.#handler.onRequestStart?.(this, null)
    if (this.aborted) return
    const hasBody = body !== null && !(Buffer.isBuffer(body) && body.length === 0)
    const stream = session.request(fieldsOf(this.#request), { endStream: !hasBody })
    this.#stream = stream
    this.#on('headers', (headers: IncomingHttpHeaders) => this.#begin(headers))
    this.#on('response', (headers: IncomingHttpHeaders) => this.#begin(headers))
    this.#on('data', (chunk: Buffer) => this.#read(chunk))
    this.#on('trailers', (trailers: IncomingHttpHeaders) => {
      this.#trailers = plainFields(trailers)
    })
    this.#on('end', () => this.#complete())
    this.#on('error', (error: Error) => this.closed(error))
    this.#on('close', () => this.closed(new (undici().errors.SocketError)('other side closed')))
    if (!hasBody || Buffer.isBuffer(body)) {
      if (hasBody) stream.end(body)
      this.#expect(this.#responseTimeoutMs)
    } else this.#send(stream, body as AsyncIterable<Buffer>).catch((error: Error) => this.#end(error))
  }

  /** The connection or the stream has closed. */
  closed(error: Error): void {
    const refused = this.#stream?.rstCode === constants.NGHTTP2_REFUSED_STREAM
    this.#end(refused && this.#isReplayable ? new RefusedStreamError('stream refused') : error)
  }

  pause(): void {
    this.paused = true
    clearTimeout(this.#timer)
    this.#stream?.pause()
  }

  resume(): void {
    if (!this.paused) return
    this.paused = false
    this.#expect(this.#bounds.bodyTimeoutMs)
    this.#stream?.resume()
  }

  abort(reason: Error): void {
    this.aborted = true
    this.reason = reason
    this.#end(reason)
  }

  get #responseTimeoutMs(): number {
    return this.#request.responseTimeoutMs ?? this.#bounds.responseTimeoutMs
  }

  get #isReplayable(): boolean {
    const { body } = this.#request
    return body === null || Buffer.isBuffer(body)
  }

  // biome-ignore lint/suspicious/noExplicitAny: each event has its own arguments.
  #on(event: string, listener: (...args: any[]) => void): void {
    this.#stream?.on(
      event,
      guard('an HTTP/2 response', listener, (error) => this.#end(error)),
    )
  }

  async #send(stream: ClientHttp2Stream, body: AsyncIterable<Buffer>): Promise<void> {
    for await (const chunk of body) {
      if (stream.destroyed || stream.writableEnded) return
      if (!stream.write(chunk)) await drained(stream)
    }
    if (stream.destroyed) return
    stream.end()
    if (!this.#started) this.#expect(this.#responseTimeoutMs)
  }

  #begin(fields: IncomingHttpHeaders): void {
    if (this.#done) return
    const headers = plainFields(fields)
    const status = Number(fields[':status'])
    if (status >= 200) {
      const length = headers['content-length']
      this.#started = true
      if (typeof length === 'string' && this.#request.method !== 'HEAD' && status !== 204 && status !== 304) {
        this.#left = Number(length)
      }
      this.#expect(this.#bounds.bodyTimeoutMs)
    }
    passHead(this.#handler, this, { status, headers, message: undefined, draining: 'x-fleet-draining' in headers })
  }

  #read(chunk: Buffer): void {
    if (this.#done) return
    if (this.#left !== undefined) this.#left -= chunk.length
    if (!this.paused) this.#expect(this.#bounds.bodyTimeoutMs)
    this.#handler.onResponseData?.(this, chunk)
  }

  #complete(): void {
    if (this.#done) return
    if (!this.#started || (this.#left !== undefined && this.#left !== 0)) {
      this.closed(new (undici().errors.SocketError)('other side closed'))
      return
    }
    this.#finish()
    this.#handler.onResponseEnd?.(this, this.#trailers)
  }

  /** @param ms until the next step; 0: no limit */
  #expect(ms: number): void {
    clearTimeout(this.#timer)
    if (ms === 0 || this.#done) return
    const { HeadersTimeoutError, BodyTimeoutError } = undici().errors
    const late = guard('a late HTTP/2 response', () =>
      this.#end(new (this.#started ? BodyTimeoutError : HeadersTimeoutError)()),
    )
    this.#timer = setTimeout(late, ms)
  }

  #end(error: Error): void {
    if (this.#done) return
    this.#finish()
    this.#handler.onResponseError?.(this.#stream ? this : (null as never), error)
  }

  #finish(): void {
    this.#done = true
    clearTimeout(this.#timer)
    const stream = this.#stream
    // A stream that is complete in both directions closes by itself; another one is cancelled.
    if (stream && !(stream.readableEnded && stream.writableLength === 0)) stream.close(constants.NGHTTP2_CANCEL)
    stream?.on('error', () => {})
    this.#onDone()
  }
}

const drained = (stream: ClientHttp2Stream): Promise<void> =>
  new Promise((resolve) => {
    const proceed = guard('the drain of an HTTP/2 request', () => {
      stream.off('drain', proceed).off('close', proceed)
      resolve()
    })
    stream.on('drain', proceed).on('close', proceed)
  })

/** The fields of a request: `Host` becomes the authority, and fields that describe the connection are dropped. */
function fieldsOf({ method, path, headers, body, rejectable }: WireRequest): Record<string, string | string[]> {
  const fields = dictionary<string | string[]>()
  fields[':method'] = method
  fields[':path'] = path
  for (const line of headers.split('\r\n')) {
    const colon = line.indexOf(': ')
    if (colon <= 0) continue
    const name = line.slice(0, colon)
    const value = line.slice(colon + 2)
    const previous = fields[name]
    if (name === 'host') fields[':authority'] = value
    else if (previous === undefined) fields[name] = value
    else if (typeof previous === 'string')
      fields[name] = name === 'cookie' ? `${previous}; ${value}` : [previous, value]
    else previous.push(value)
  }
  if (Buffer.isBuffer(body) && body.length > 0) fields['content-length'] ??= String(body.length)
  if (rejectable) fields['x-fleet-retry'] = '1'
  // gRPC servers require it.
  fields.te = 'trailers'
  return fields
}

/** Without pseudo-header fields. */
function plainFields(received: IncomingHttpHeaders): HeaderFields {
  const fields = dictionary<string | string[]>()
  for (const name of Object.keys(received)) {
    const value = received[name]
    if (name[0] !== ':' && value !== undefined) fields[name] = value
  }
  return fields
}
