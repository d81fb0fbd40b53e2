import type { IncomingHttpHeaders } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import { FleetError, type FleetErrorCode } from '../base/errors.ts'
import { Attempt, type AttemptOwner } from './attempt.ts'
import type { PickInput } from './policies/index.ts'
import type { RetryBudget } from './retry-budget.ts'
import type { Rotation } from './rotation.ts'
import type { Target } from './target.ts'
import type { WaitingRoom } from './waiting-room.ts'

export interface RetryOptions {
  /** Targets one request is sent to at most, the first one included. @default 3 */
  attempts: number
  /** Answers to a safe request that are worth another target. @default [502, 503] */
  statuses: readonly number[]
  /**
   * Also repeat a request of any method that was sent and has an `Idempotency-Key`. Only for upstreams that honour the
   * key; everything else that changes something is sent once. @default false
   */
  idempotencyKey: boolean
  /** Retries per request, 0 to 1, on average. @default 0.2 */
  budget: number
  /** Retries per second that are always allowed. @default 10 */
  minPerSecond: number
  /**
   * A safe request that has no answer after this time is also sent to a second target, within the budget, and the
   * first answer counts. In milliseconds; 0: never. Source: Dean, Barroso, "The Tail at Scale", CACM 2013. @default 0
   */
  hedgeMs: number
}

/** Why an attempt has no answer. `refused`: no connection, so nothing was sent; `lost`: no answer, or not all of it. */
export type Failure = 'refused' | 'lost'

/** What every request of one balancer shares, whichever face it came in by. */
export interface Core {
  readonly rotation: Rotation
  readonly waitingRoom: WaitingRoom
  readonly budget: RetryBudget
  readonly retry: RetryOptions
  /** Longest wait for a target, in milliseconds. */
  readonly waitMs: number
  /** Attempts after a first one, and attempts beside a first one. */
  readonly stats: { retries: number; hedges: number }
  /** The target said that it leaves. */
  draining(target: Target): void
  /** How an attempt went. @param status of the answer, 0 when there is none @param startedAt monotonic milliseconds */
  judged(target: Target, status: number, failure: Failure | undefined, startedAt: number): void
  /** Gives back the place that `rotation.begin` took. */
  release(target: Target): void
}

/** RFC 9110 section 9.2.1, and QUERY of draft-ietf-httpbis-safe-method-w-body. TRACE is left out: nobody forwards it. */
const safeMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'QUERY'])

/**
 * One request's way to an answer: choose a target, send, and choose another one as long as nothing can happen twice by
 * it. Towards `outer` it is one undici exchange, however many attempts it took.
 */
export class Exchange implements AttemptOwner, Dispatcher.DispatchController {
  aborted = false
  reason: Error | null = null
  readonly #core: Core
  readonly #options: Dispatcher.DispatchOptions
  readonly #outer: Dispatcher.DispatchHandler
  readonly #input: PickInput
  readonly #safe: boolean
  readonly #tried: Target[] = []
  /** Attempts that may still become the answer; two of them while hedging. */
  readonly #open: Attempt[] = []
  #winner: Attempt | undefined
  #leaveWaitingRoom: (() => void) | undefined
  #waitUntil: number | undefined
  #hedge: NodeJS.Timeout | undefined
  #done = false

  constructor(core: Core, options: Dispatcher.DispatchOptions, outer: Dispatcher.DispatchHandler, input: PickInput) {
    this.#core = core
    this.#options = options
    this.#outer = outer
    this.#input = input
    this.#safe = safeMethods.has(options.method)
  }

  start(): void {
    this.#core.budget.deposit()
    this.#outer.onRequestStart?.(this, null)
    if (!this.#done) this.#attempt()
    const { hedgeMs } = this.#core.retry
    if (hedgeMs > 0 && this.#mayRepeat() && !this.#options.upgrade) {
      this.#hedge = setTimeout(() => this.#attemptBeside(), hedgeMs)
    }
  }

  /** There is an answer, or an error, and nothing more to come. */
  get done(): boolean {
    return this.#done
  }
  get paused(): boolean {
    return this.#winner?.controller?.paused ?? false
  }
  get rawHeaders(): Dispatcher.DispatchController['rawHeaders'] {
    return this.#winner?.controller?.rawHeaders
  }
  get rawTrailers(): Dispatcher.DispatchController['rawTrailers'] {
    return this.#winner?.controller?.rawTrailers
  }
  pause(): void {
    this.#winner?.controller?.pause()
  }
  resume(): void {
    this.#winner?.controller?.resume()
  }

  /** The client gave up. */
  abort(reason: Error): void {
    if (this.#done) return
    this.aborted = true
    this.reason = reason
    this.#leaveWaitingRoom?.()
    const open = this.#winner ? [this.#winner] : [...this.#open]
    this.#fail(reason)
    for (const attempt of open) attempt.cancel(reason)
  }

  upgraded(attempt: Attempt, status: number, headers: IncomingHttpHeaders, socket: Duplex): void {
    this.#judge(attempt, status)
    this.#win(attempt)
    socket.once('close', () => this.#core.release(attempt.target))
    this.#finish()
    this.#outer.onRequestUpgrade?.(this, status, headers, socket)
  }

  started(attempt: Attempt, status: number, headers: IncomingHttpHeaders, message: string | undefined): void {
    if (this.#done) return
    if (status < 200) {
      if (this.#open.length === 1) this.#outer.onResponseStart?.(this, status, headers, message)
      return
    }
    if (headers['x-fleet-draining'] !== undefined) this.#core.draining(attempt.target)
    const refused = status === 502 && attempt.refusable && headers['x-fleet-draining'] !== undefined
    if (!refused) this.#judge(attempt, status)
    if (refused || this.#core.retry.statuses.includes(status)) {
      if (this.#replace(attempt, refused)) return
    }
    this.#win(attempt)
    this.#outer.onResponseStart?.(this, status, headers, message)
  }

  data(chunk: Buffer): void {
    if (!this.#done) this.#outer.onResponseData?.(this, chunk)
  }

  ended(attempt: Attempt, trailers: IncomingHttpHeaders): void {
    this.#core.release(attempt.target)
    if (attempt !== this.#winner || this.#done) return
    this.#finish()
    this.#outer.onResponseEnd?.(this, trailers)
  }

  failed(attempt: Attempt, error: Error): void {
    this.#core.release(attempt.target)
    if (this.#done) return
    if (attempt !== this.#winner && !this.#open.includes(attempt)) return
    if (isOurFault(error)) {
      this.#fail(error)
      return
    }
    this.#judge(attempt, 0, attempt.sent ? 'lost' : 'refused')
    if (attempt === this.#winner) {
      this.#fail(error)
      return
    }
    this.#drop(attempt)
    if (this.#open.length > 0) return
    // Lost, not answered: also a target that is not proven yet is better than giving up.
    const elsewhere = this.#isRepeatable() && this.#core.rotation.hasUntried(this.#tried)
    if (!attempt.sent || (elsewhere && this.#withdraw())) this.#attempt()
    else this.#fail(error)
  }

  #attempt(): void {
    const { rotation } = this.#core
    const target = rotation.choose(this.#input, this.#tried)
    if (!target) {
      this.#wait()
      return
    }
    if (this.#tried.length > 0) this.#core.stats.retries++
    this.#send(target)
  }

  /** Hedging: a second attempt while the first one is under way. */
  #attemptBeside(): void {
    if (this.#done || this.#winner || this.#open.length !== 1 || !this.#mayRepeat() || !this.#withdraw()) return
    const target = this.#core.rotation.choose(this.#input, this.#tried)
    if (!target) return
    this.#core.stats.hedges++
    this.#send(target)
  }

  #send(target: Target): void {
    this.#tried.push(target)
    const refusable = this.#safe && this.#core.rotation.hasOther(this.#tried)
    const attempt = new Attempt(this, target, refusable)
    this.#open.push(attempt)
    this.#core.rotation.begin(target)
    target.pool(this.#safe).dispatch(refusable ? withRetryHeader(this.#options) : this.#options, attempt)
  }

  /**
   * Puts another attempt in the place of one whose answer is no use. False when that cannot be.
   *
   * @param refused before any work, because we asked for that; the target may be asked again, without the header, when
   * all others are gone by now
   */
  #replace(attempt: Attempt, refused: boolean): boolean {
    const others = this.#open.length > 1
    if (!refused && !others && !(this.#mayRepeat() && this.#withdraw())) return false
    if (refused) this.#tried.splice(this.#tried.indexOf(attempt.target), 1)
    this.#drop(attempt)
    attempt.discard()
    if (!others) this.#attempt()
    return true
  }

  /** Everything is full, refuses, or is gone: a place in the waiting room, unless nothing has been up for long. */
  #wait(): void {
    const { rotation, waitingRoom, waitMs } = this.#core
    const now = performance.now()
    this.#waitUntil ??= Math.min(now, rotation.lostAt ?? now) + waitMs
    this.#leaveWaitingRoom = waitingRoom.enter(this.#waitUntil - now, (again) => {
      this.#leaveWaitingRoom = undefined
      this.#tried.length = 0
      if (again) this.#attempt()
      else this.#fail(unavailable('FLEET_ERR_NO_TARGET', 'none became free in time'))
    })
    if (this.#leaveWaitingRoom) return
    this.#fail(unavailable(rotation.up > 0 ? 'FLEET_ERR_QUEUE_FULL' : 'FLEET_ERR_NO_TARGET'))
  }

  /** From here on this attempt's answer is the answer. */
  #win(attempt: Attempt): void {
    this.#winner = attempt
    // Emptied first: what is cancelled reports its end at once, and must find that nobody waits for it.
    for (const other of this.#open.splice(0)) if (other !== attempt) other.cancel(new Error('another was faster'))
  }

  #drop(attempt: Attempt): void {
    const place = this.#open.indexOf(attempt)
    if (place >= 0) this.#open.splice(place, 1)
  }

  /** Worth another target that is up, though there is an answer, or one may still come. */
  #mayRepeat(): boolean {
    return this.#isRepeatable() && this.#core.rotation.hasOther(this.#tried)
  }

  #isRepeatable(): boolean {
    const { body, headers } = this.#options
    const { attempts, idempotencyKey } = this.#core.retry
    const replayable = body == null || body instanceof Uint8Array || typeof body === 'string'
    const harmless = this.#safe || (idempotencyKey && hasHeader(headers, 'idempotency-key'))
    return replayable && harmless && this.#tried.length < attempts
  }

  #withdraw(): boolean {
    return this.#core.budget.withdraw(performance.now())
  }

  #judge(attempt: Attempt, status: number, failure?: Failure): void {
    this.#core.judged(attempt.target, status, failure, attempt.startedAt)
  }

  #fail(error: Error): void {
    if (this.#done) return
    this.#finish()
    this.#outer.onResponseError?.(this, error)
  }

  #finish(): void {
    this.#done = true
    clearTimeout(this.#hedge)
  }
}

const unavailable = (code: FleetErrorCode, detail?: string): FleetError =>
  new FleetError(code, detail, { retryAfter: 1 })

const clientFaults: ReadonlySet<unknown> = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
])
/** The request itself cannot be sent, or its body stopped coming: no target is to blame. */
const isOurFault = (error: Error): boolean =>
  error instanceof FleetError || clientFaults.has((error as { code?: unknown }).code)

const withRetryHeader = (options: Dispatcher.DispatchOptions): Dispatcher.DispatchOptions => ({
  ...options,
  headers: flatHeaders(options.headers).concat('x-fleet-retry', '1'),
})

const hasHeader = (headers: Dispatcher.DispatchOptions['headers'], name: string): boolean =>
  flatHeaders(headers).some((text, i) => i % 2 === 0 && text.toLowerCase() === name)

/** undici takes headers in three forms; this is the one that keeps duplicates. */
function flatHeaders(headers: Dispatcher.DispatchOptions['headers']): string[] {
  if (!headers) return []
  if (Array.isArray(headers)) return headers as string[]
  const entries = Symbol.iterator in headers ? [...headers] : Object.entries(headers)
  return (entries as [string, string | string[] | undefined][]).flatMap(([name, value]) =>
    [value ?? []].flat().flatMap((each) => [name, String(each)]),
  )
}
