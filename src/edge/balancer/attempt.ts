import type { IncomingHttpHeaders } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Duplex } from 'node:stream'
import { caught } from '../boundary.ts'
import { headersFrom } from '../http/wire/fields.ts'
import type { HeadHandler, UpstreamController, UpstreamHead } from '../http/wire/response-head.ts'
import type { Target } from './target.ts'
import { undici } from './undici.ts'

/** Whom an attempt reports to. */
export interface AttemptOwner {
  upgraded(attempt: Attempt, status: number, headers: IncomingHttpHeaders, socket: Duplex): void
  started(attempt: Attempt, head: UpstreamHead): void
  data(chunk: Buffer): void
  ended(attempt: Attempt, trailers: IncomingHttpHeaders): void
  failed(attempt: Attempt, error: Error): void
  /** One of the calls above has thrown. */
  crashed(attempt: Attempt, error: Error): void
}

/** Bytes of an answer that is thrown away, before its connection is given up instead. */
const maxDiscard = 64 * 1024

/**
 * Informational responses (1xx) that one attempt may send before its response. Servers send one or two; an upstream that
 * sends more has failed.
 */
const maxInformational = 16

/** A reason phrase that can be passed on: undici reads UTF-8 and Node writes Latin-1. */
const phrase = /^[\t\x20-\x7e\x80-\xff]*$/

/**
 * One request on its way to one target, as an undici handler. It is the boundary between what reads a response and what
 * deals with it: nothing that throws there may end the reader, or leave the client without a response.
 */
export class Attempt implements HeadHandler {
  readonly target: Target
  readonly startedAt: number = performance.now()
  /** The target was asked to refuse rather than to work while it drains. */
  readonly rejectable: boolean
  /** It was written to a connection, at least in part. */
  sent = false
  /** Its place at the target has been given back. */
  released = false
  controller: UpstreamController | undefined
  readonly #owner: AttemptOwner
  #cancelled: Error | undefined
  #discarded = -1
  #informational = 0

  constructor(owner: AttemptOwner, target: Target, rejectable: boolean) {
    this.#owner = owner
    this.target = target
    this.rejectable = rejectable
  }

  /** Nobody wants the answer any more. What still waits for a connection ends as soon as it gets one, unsent. */
  cancel(reason: Error): void {
    this.#cancelled = reason
    this.controller?.abort(reason)
  }

  /** The answer that is coming in is not the one that goes out. */
  discard(): void {
    this.#discarded = 0
  }

  onRequestStart(controller: UpstreamController): void {
    this.controller = controller
    if (this.#cancelled) controller.abort(this.#cancelled)
    else this.sent = true
  }

  onRequestUpgrade(_: UpstreamController, status: number, headers: IncomingHttpHeaders, socket: Duplex): void {
    try {
      this.#owner.upgraded(this, status, headersFrom(headers), socket)
    } catch (error) {
      socket.destroy()
      this.#crash(error)
    }
  }

  onResponseHead(_: UpstreamController, head: UpstreamHead): void {
    try {
      if (head.status >= 200 || this.#mayInform(head.status)) this.#owner.started(this, head)
    } catch (error) {
      this.#crash(error)
    }
  }

  /** From undici, whose parser is more lenient than the one here. */
  onResponseStart(controller: UpstreamController, status: number, given: IncomingHttpHeaders, text?: string): void {
    const headers = headersFrom(given)
    const coding = headers['transfer-encoding']
    // Other codings below would have to be undone first.
    if (coding !== undefined && String(coding).toLowerCase() !== 'chunked') this.#refuse('Transfer-Encoding')
    else {
      const message = text !== undefined && phrase.test(text) ? text : undefined
      this.onResponseHead(controller, { status, headers, message, draining: 'x-fleet-draining' in headers })
    }
  }

  onResponseData(controller: UpstreamController, chunk: Buffer): void {
    try {
      if (this.#discarded < 0) {
        this.#owner.data(chunk)
        return
      }
      this.#discarded += chunk.length
      if (this.#discarded > maxDiscard) controller.abort(new Error('answer not needed'))
    } catch (error) {
      this.#crash(error)
    }
  }

  onResponseEnd(_: UpstreamController, trailers: IncomingHttpHeaders): void {
    try {
      this.#owner.ended(this, headersFrom(trailers))
    } catch (error) {
      this.#crash(error)
    }
  }

  onResponseError(_: UpstreamController | null, error: Error): void {
    try {
      this.#owner.failed(this, error)
    } catch (thrown) {
      this.#crash(thrown)
    }
  }

  /** A switch of protocols that was not asked for, or an endless number of other ones, is a failure. */
  #mayInform(status: number): boolean {
    this.#informational++
    if (status !== 101 && this.#informational <= maxInformational) return true
    this.#refuse(status === 101 ? 'status 101' : 'too many informational responses')
    return false
  }

  #refuse(what: string): void {
    this.cancel(new (undici().errors.HTTPParserError)(`response refused: ${what}`))
  }

  #crash(thrown: unknown): void {
    caught('the handling of a response', thrown, (error) => this.#owner.crashed(this, error))
  }
}
