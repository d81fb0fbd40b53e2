import type { IncomingHttpHeaders } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { Target } from './target.ts'
import type { AnswerHead, HeadHandler } from './wire/response-head.ts'

type Controller = Dispatcher.DispatchController
type Headers = AnswerHead['headers']

/** Whom an attempt reports to. */
export interface AttemptOwner {
  upgraded(attempt: Attempt, status: number, headers: IncomingHttpHeaders, socket: Duplex): void
  started(attempt: Attempt, head: AnswerHead): void
  data(chunk: Buffer): void
  ended(attempt: Attempt, trailers: IncomingHttpHeaders): void
  failed(attempt: Attempt, error: Error): void
}

/** Bytes of an answer that is thrown away, before its connection is given up instead. */
const maxDiscard = 64 * 1024

/** One request on its way to one target, as an undici handler. */
export class Attempt implements HeadHandler {
  readonly target: Target
  readonly startedAt: number = performance.now()
  /** The target was asked to refuse rather than to work while it drains. */
  readonly refusable: boolean
  /** It was written to a connection, at least in part. */
  sent = false
  controller: Controller | undefined
  readonly #owner: AttemptOwner
  #cancelled: Error | undefined
  #discarded = -1

  constructor(owner: AttemptOwner, target: Target, refusable: boolean) {
    this.#owner = owner
    this.target = target
    this.refusable = refusable
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

  onRequestStart(controller: Controller): void {
    this.controller = controller
    if (this.#cancelled) controller.abort(this.#cancelled)
    else this.sent = true
  }

  onRequestUpgrade(_: Controller, status: number, headers: IncomingHttpHeaders, socket: Duplex): void {
    this.#owner.upgraded(this, status, headers, socket)
  }

  onResponseHead(_: Controller, head: AnswerHead): void {
    this.#owner.started(this, head)
  }

  onResponseStart(_: Controller, status: number, headers: Headers, message?: string): void {
    this.#owner.started(this, { status, headers, message, draining: headers['x-fleet-draining'] !== undefined })
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    if (this.#discarded < 0) {
      this.#owner.data(chunk)
      return
    }
    this.#discarded += chunk.length
    if (this.#discarded > maxDiscard) controller.abort(new Error('answer not needed'))
  }

  onResponseEnd(_: Controller, trailers: IncomingHttpHeaders): void {
    this.#owner.ended(this, trailers)
  }

  onResponseError(_: Controller | null, error: Error): void {
    this.#owner.failed(this, error)
  }
}
