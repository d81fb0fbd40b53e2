import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import type { Exchange } from '../balancer/exchange.ts'
import { guard } from '../boundary.ts'
import type { HeaderFields } from '../http/headers.ts'
import { http2Fields } from '../http/http2-fields.ts'
import { sendInformational } from '../http/informational.ts'
import { isHttp2 } from '../http/node-server.ts'
import { responseTrailers } from '../http/trailers.ts'
import { noTrailers } from '../http/wire/fields.ts'
import type { HeadHandler, UpstreamController, UpstreamHead } from '../http/wire/response-head.ts'

const highWaterMark = 64 * 1024

/** The body of an upstream's response, with back-pressure. Destroying it aborts the request. */
export class ResponseBody extends Readable implements HeadHandler {
  /** The head of the response; rejects when there is none. */
  readonly head: Promise<UpstreamHead>
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #settle: { resolve(head: UpstreamHead): void; reject(error: Error): void }
  #exchange: Exchange | undefined
  #connection: string | string[] | undefined
  #trailers: HeaderFields = noTrailers
  #hasHead = false

  /** @param response of the client, for informational responses and trailers */
  constructor(request: IncomingMessage, response: ServerResponse) {
    super({ highWaterMark })
    this.#request = request
    this.#response = response
    const { promise, resolve, reject } = Promise.withResolvers<UpstreamHead>()
    this.head = promise
    this.#settle = { resolve, reject }
    // An error without a listener would end the process. The reader of the stream has one as well.
    this.on('error', () => {})
    // Before the listener of `pipe`, which ends the response.
    const ended = guard('the trailers of a response', () => this.#sendTrailers())
    this.once('end', ended)
  }

  get exchange(): Exchange | undefined {
    return this.#exchange
  }

  onRequestStart(controller: UpstreamController): void {
    this.#exchange = controller as Exchange
  }

  onResponseHead(_: UpstreamController, head: UpstreamHead): void {
    if (head.status < 200) {
      sendInformational(this.#request, this.#response, head)
      return
    }
    this.#hasHead = true
    this.#connection = head.headers.connection
    this.#settle.resolve(head)
  }

  onResponseData(controller: UpstreamController, chunk: Buffer): void {
    if (!this.push(chunk)) controller.pause()
  }

  onResponseEnd(_: UpstreamController, trailers: HeaderFields): void {
    this.#trailers = trailers
    this.push(null)
  }

  onResponseError(_: UpstreamController | null, error: Error): void {
    if (this.#hasHead) this.destroy(error)
    else {
      this.#settle.reject(error)
      this.destroy()
    }
  }

  override _read(): void {
    this.#exchange?.resume()
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (this.#exchange?.done === false) this.#exchange.abort(error ?? new Error('the response is not needed'))
    callback(error)
  }

  #sendTrailers(): void {
    const flat = responseTrailers(this.#trailers, this.#connection)
    if (flat.length === 0 || this.#response.writableEnded) return
    if (isHttp2(this.#request)) {
      this.#response.addTrailers(http2Fields(flat) as Record<string, string>)
      return
    }
    const pairs: [string, string][] = []
    for (let i = 0; i < flat.length; i += 2) pairs.push([flat[i] as string, flat[i + 1] as string])
    this.#response.addTrailers(pairs)
  }
}
