import type { IncomingHttpHeaders } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import { undici } from '../../base/internals/undici.ts'
import { caught } from '../boundary.ts'
import { headersFrom } from '../http/wire/fields.ts'
import { RefusedStreamError } from '../http/wire/http2-exchange.ts'
import type { HeadHandler, UpstreamController, UpstreamHead } from '../http/wire/response-head.ts'
import type { BalancerContext } from './context.ts'
import type { Target } from './target.ts'

/** Header fields as a list of names and values. */
export type RawFields = NonNullable<Dispatcher.DispatchController['rawHeaders']> | null

/** Receives the events of an attempt. */
export interface AttemptOwner {
  upgraded(attempt: Attempt, status: number, headers: IncomingHttpHeaders, socket: Duplex): void
  started(attempt: Attempt, head: UpstreamHead): void
  data(chunk: Buffer): void
  ended(attempt: Attempt, trailers: IncomingHttpHeaders): void
  failed(attempt: Attempt, error: Error): void
  /** One of the calls above threw `error`. */
  crashed(attempt: Attempt, error: Error): void
}

/** Bytes of a discarded response body to read before its connection is closed instead. */
const maxDiscard = 64 * 1024

/**
 * Informational responses (1xx) that one attempt may send before its response. Servers send one or two; an upstream that
 * sends more has failed.
 */
const maxInformational = 16

/** A reason phrase that can be forwarded: undici decodes it as UTF-8, Node encodes it as Latin-1. */
const phrase = /^[\t\x20-\x7e\x80-\xff]*$/

/**
 * One request sent to one target, as an undici handler. It separates the response reader from the code that handles the
 * response: an exception in a handler neither stops the reader nor leaves the client without a response.
 */
export class Attempt implements HeadHandler {
  readonly target: Target
  readonly startedAt: number = performance.now()
  /** The request carries `X-Fleet-Retry`: a draining target rejects it instead of serving it. */
  readonly rejectable: boolean
  /** The request was written to a connection, at least in part. */
  sent = false
  controller: UpstreamController | undefined
  readonly #owner: AttemptOwner
  #settled = false
  #released = false
  #cancelled: Error | undefined
  #discarded = -1
  #informational = 0

  constructor(owner: AttemptOwner, target: Target, rejectable: boolean) {
    this.#owner = owner
    this.target = target
    this.rejectable = rejectable
  }

  /** The target no longer counts this attempt as pending: its outcome is known, or there will be none. */
  settle({ settle }: BalancerContext): void {
    if (this.#settled) return
    this.#settled = true
    settle(this.target)
  }

  /** The target no longer counts this attempt as in flight. */
  release(context: BalancerContext): void {
    this.settle(context)
    if (this.#released) return
    this.#released = true
    context.release(this.target)
  }

  /** Aborts the attempt. If it still waits for a connection, it ends unsent as soon as it gets one. */
  cancel(reason: Error): void {
    this.#cancelled = reason
    this.controller?.abort(reason)
  }

  /** Reads and drops the rest of the response; another attempt produces the one for the client. */
  discard(): void {
    this.#discarded = 0
  }

  onRequestStart(controller: UpstreamController): void {
    this.controller = controller
    if (this.#cancelled) controller.abort(this.#cancelled)
    else this.sent = true
  }

  onRequestUpgrade(_: UpstreamController, status: number, headers: IncomingHttpHeaders, socket: Duplex): void {
    this.#protect(
      () => this.#owner.upgraded(this, status, headersFrom(headers), socket),
      () => socket.destroy(),
    )
  }

  onResponseHead(_: UpstreamController, head: UpstreamHead): void {
    this.#protect(() => {
      if (head.status >= 200 || this.#mayInform(head.status)) this.#owner.started(this, head)
    })
  }

  /** Called by undici, whose parser is more lenient than our own. */
  onResponseStart(controller: UpstreamController, status: number, given: IncomingHttpHeaders, text?: string): void {
    const headers = headersFrom(given)
    const coding = headers['transfer-encoding']
    // Any other coding would have to be decoded first.
    if (coding !== undefined && String(coding).toLowerCase() !== 'chunked') this.#reject('Transfer-Encoding')
    else {
      const message = text !== undefined && phrase.test(text) ? text : undefined
      this.onResponseHead(controller, { status, headers, message, draining: 'x-fleet-draining' in headers })
    }
  }

  onResponseData(controller: UpstreamController, chunk: Buffer): void {
    if (this.#discarded < 0) {
      this.#protect(() => this.#owner.data(chunk))
      return
    }
    this.#discarded += chunk.length
    if (this.#discarded > maxDiscard) this.#protect(() => controller.abort(new Error('response not needed')))
  }

  onResponseEnd(_: UpstreamController, trailers: IncomingHttpHeaders): void {
    this.#protect(() => this.#owner.ended(this, headersFrom(trailers)))
  }

  onResponseError(_: UpstreamController | null, error: Error): void {
    if (error instanceof RefusedStreamError) this.sent = false
    this.#protect(() => this.#owner.failed(this, error))
  }

  /** An unrequested protocol switch (101) and too many informational responses are failures. */
  #mayInform(status: number): boolean {
    this.#informational++
    if (status !== 101 && this.#informational <= maxInformational) return true
    this.#reject(status === 101 ? 'status 101' : 'too many informational responses')
    return false
  }

  #reject(what: string): void {
    this.cancel(new (undici().errors.HTTPParserError)(`response rejected: ${what}`))
  }

  #protect(step: () => void, clean?: () => void): void {
    try {
      step()
    } catch (thrown) {
      clean?.()
      caught('the handling of a response', thrown, (error) => this.#owner.crashed(this, error))
    }
  }
}
