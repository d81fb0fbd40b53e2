import type { IncomingHttpHeaders } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import { caught, guard } from '../boundary.ts'
import { type HeadHandler, passHead, type UpstreamHead } from '../http/wire/response-head.ts'
import { Attempt, type AttemptOwner, type RawFields } from './attempt.ts'
import { type BalancerContext, type Failure, unavailable } from './context.ts'
import type { PickInput } from './policies/index.ts'
import { isBreak, isOurFault, isRepeatable, isSafe, pauseMs } from './retry-rules.ts'
import type { Target, UpstreamRequest } from './target.ts'

/**
 * Carries one request from the choice of a target to the response: chooses, sends, and retries on another target while
 * that cannot take effect twice. For `outer` it is a single undici exchange, whatever the number of attempts.
 */
export class Exchange implements AttemptOwner, Dispatcher.DispatchController {
  aborted = false
  reason: Error | null = null
  readonly #context: BalancerContext
  readonly #options: UpstreamRequest
  readonly #outer: HeadHandler
  readonly #input: PickInput
  readonly #safe: boolean
  readonly #tried: Target[] = []
  /** Attempts that may still produce the response; two while hedging. */
  readonly #open: Attempt[] = []
  #winner: Attempt | undefined
  /** How many times the request was, or may have been, sent. */
  #sends = 0
  /** Cancels the wait for a target or for the next attempt. */
  #cancelWait: (() => void) | undefined
  #waitUntil: number | undefined
  #hedge: NodeJS.Timeout | undefined
  #done = false

  constructor(context: BalancerContext, options: UpstreamRequest, outer: HeadHandler, input: PickInput) {
    this.#context = context
    this.#options = options
    this.#outer = outer
    this.#input = input
    this.#safe = isSafe(options.method)
  }

  start(): void {
    this.#context.budget.deposit()
    this.#outer.onRequestStart?.(this, null)
    if (!this.#done) this.#attempt()
    const { hedgeMs } = this.#context.retry
    if (hedgeMs > 0 && this.#mayRepeat() && !this.#options.upgrade) {
      const beside = guard('a hedged attempt', () => this.#attemptBeside(), this.#aborter())
      this.#hedge = setTimeout(beside, hedgeMs)
    }
  }

  /** The response is complete, or the request has failed. */
  get done(): boolean {
    return this.#done
  }
  /** The target whose response this is; undefined until then. */
  get target(): Target | undefined {
    return this.#winner?.target
  }
  get paused(): boolean {
    return this.#winner?.controller?.paused ?? false
  }
  get rawHeaders(): RawFields {
    return this.#winner?.controller?.rawHeaders ?? null
  }
  get rawTrailers(): RawFields {
    return this.#winner?.controller?.rawTrailers ?? null
  }
  pause(): void {
    if (!this.#done) this.#winner?.controller?.pause()
  }
  /** Ignored once done: the connection may already carry another response. */
  resume(): void {
    if (!this.#done) this.#winner?.controller?.resume()
  }

  /** Called when the client gives up. */
  abort(reason: Error): void {
    if (this.#done) return
    this.aborted = true
    this.reason = reason
    this.#cancelWait?.()
    const open = this.#winner ? [this.#winner] : [...this.#open]
    this.#fail(reason)
    for (const attempt of open) attempt.cancel(reason)
  }

  #aborter(): (error: Error) => void {
    return (error) => this.abort(error)
  }

  upgraded(attempt: Attempt, status: number, headers: IncomingHttpHeaders, socket: Duplex): void {
    // undici has removed all listeners from the socket.
    socket.on('error', () => socket.destroy())
    socket.once(
      'close',
      guard('the end of a tunnel', () => attempt.release(this.#context)),
    )
    this.#recordOutcome(attempt, status)
    this.#win(attempt)
    this.#finish()
    this.#outer.onRequestUpgrade?.(this, status, headers, socket)
  }

  started(attempt: Attempt, head: UpstreamHead): void {
    if (this.#done) return
    const { status, draining } = head
    if (status < 200) {
      if (this.#open.length === 1) passHead(this.#outer, this, head)
      return
    }
    if (draining) this.#context.draining(attempt.target)
    const refused = status === 502 && attempt.rejectable && draining
    const { statuses, suspects } = this.#context.retry
    const blamed = !refused && this.#recordOutcome(attempt, status)
    if (refused || statuses.includes(status) || (blamed && suspects)) {
      if (this.#replace(attempt, refused)) return
    }
    this.#win(attempt)
    passHead(this.#outer, this, head)
  }

  data(chunk: Buffer): void {
    if (!this.#done) this.#outer.onResponseData?.(this, chunk)
  }

  ended(attempt: Attempt, trailers: IncomingHttpHeaders): void {
    attempt.release(this.#context)
    if (attempt !== this.#winner || this.#done) return
    this.#finish()
    this.#outer.onResponseEnd?.(this, trailers)
  }

  crashed(attempt: Attempt, error: Error): void {
    if (this.#done) this.#outer.onResponseError?.(this, error)
    else this.abort(error)
    attempt.cancel(error)
  }

  failed(attempt: Attempt, error: Error): void {
    const awaited = !this.#done && (attempt === this.#winner || this.#open.includes(attempt))
    const ours = isOurFault(error)
    // The outcome first: a request that waits for this place must not go to a target that has just failed.
    if (awaited && !ours) this.#recordOutcome(attempt, 0, attempt.sent ? 'lost' : 'refused')
    attempt.release(this.#context)
    if (!awaited) return
    if (ours || attempt === this.#winner) {
      this.#fail(error)
      return
    }
    this.#drop(attempt)
    if (!attempt.sent) this.#sends--
    if (this.#open.length > 0) return
    if (!attempt.sent) {
      this.#attempt()
      return
    }
    // After a lost response even an unproven target is better than giving up.
    const worthIt = isBreak(error) || this.#context.rotation.hasUntried(this.#tried)
    if (worthIt && this.#mayResend() && this.#context.budget.withdraw()) this.#attemptAgain()
    else this.#fail(error)
  }

  #attempt(): void {
    const { rotation } = this.#context
    const target = rotation.choose(this.#input, this.#tried)
    if (!target) {
      this.#wait()
      return
    }
    if (this.#tried.length > 0 || this.#sends > 0) this.#context.stats.retries++
    this.#send(target)
  }

  /**
   * Retries after a lost response. When all targets were tried, they are tried again: one of them may be back, or may not
   * have been probed yet. A dead one refuses the connection, which costs nothing and leads to the waiting room.
   */
  #attemptAgain(): void {
    const again = () => {
      this.#cancelWait = undefined
      if (!this.#context.rotation.hasUntried(this.#tried)) this.#tried.length = 0
      this.#attempt()
    }
    const elsewhere = this.#context.rotation.hasUntried(this.#tried)
    const ms = pauseMs(elsewhere ? this.#sends + 1 : this.#sends + 2)
    if (ms === 0) again()
    else {
      const timer = setTimeout(guard('another attempt', again, this.#aborter()), ms)
      this.#cancelWait = () => clearTimeout(timer)
    }
  }

  /** Hedging: a second attempt while the first one is in flight. */
  #attemptBeside(): void {
    if (this.#done || this.#winner || this.#open.length !== 1 || !this.#mayRepeat() || !this.#context.budget.withdraw())
      return
    const target = this.#context.rotation.choose(this.#input, this.#tried)
    if (!target) return
    this.#context.stats.hedges++
    this.#send(target)
  }

  #send(target: Target): void {
    this.#tried.push(target)
    this.#sends++
    const rejectable = this.#safe && this.#context.rotation.hasOther(this.#tried)
    const attempt = new Attempt(this, target, rejectable)
    this.#open.push(attempt)
    this.#context.rotation.begin(target)
    target.send(this.#options, attempt, this.#safe)
  }

  /**
   * Replaces an attempt whose response is of no use by another one.
   *
   * @param refused the draining target rejected the request as requested, before any work; it may be tried again, without
   * that header, once no other target is up
   * @returns false when no other attempt is possible
   */
  #replace(attempt: Attempt, refused: boolean): boolean {
    const others = this.#open.length > 1
    if (!refused && !others && !(this.#mayRepeat() && this.#context.budget.withdraw())) return false
    if (refused) {
      this.#tried.splice(this.#tried.indexOf(attempt.target), 1)
      this.#sends--
    }
    this.#drop(attempt)
    attempt.discard()
    if (!others) this.#attempt()
    return true
  }

  /** Waits for a target, since all are full, refusing or down; fails at once when none has been up for `waitMs`. */
  #wait(): void {
    const { rotation, waitingRoom, waitMs } = this.#context
    const now = performance.now()
    this.#waitUntil ??= Math.min(now, rotation.lostAt ?? now) + waitMs
    const retry = (again: boolean) => {
      this.#cancelWait = undefined
      this.#tried.length = 0
      if (again) this.#attempt()
      else this.#fail(unavailable('FLEET_ERR_NO_TARGET', 'none became free in time'))
    }
    this.#cancelWait = waitingRoom.enter(this.#waitUntil - now, guard('the end of a wait', retry, this.#aborter()))
    if (this.#cancelWait) return
    this.#fail(unavailable(rotation.up > 0 ? 'FLEET_ERR_QUEUE_FULL' : 'FLEET_ERR_NO_TARGET'))
  }

  /** From here on, this attempt's response is the one for the client. */
  #win(attempt: Attempt): void {
    this.#winner = attempt
    // Emptied first: a cancelled attempt reports its end synchronously and must not find itself among the open ones.
    for (const other of this.#open.splice(0))
      if (other !== attempt) other.cancel(new Error('another attempt was faster'))
  }

  #drop(attempt: Attempt): void {
    const place = this.#open.indexOf(attempt)
    if (place >= 0) this.#open.splice(place, 1)
  }

  /** Whether the request may go to another target that is up although a response exists or may still arrive. */
  #mayRepeat(): boolean {
    return this.#mayResend() && this.#context.rotation.hasOther(this.#tried)
  }

  #mayResend(): boolean {
    const { attempts, idempotencyKey } = this.#context.retry
    return this.#sends < attempts && isRepeatable(this.#options, idempotencyKey)
  }

  #recordOutcome(attempt: Attempt, status: number, failure?: Failure): boolean {
    const blamed = this.#context.recordOutcome(attempt.target, status, failure, attempt.startedAt)
    attempt.settle(this.#context)
    return blamed
  }

  #fail(error: Error): void {
    if (this.#done) return
    this.#finish()
    try {
      this.#outer.onResponseError?.(this, error)
    } catch (thrown) {
      caught('the reporting of an error', thrown)
    }
  }

  #finish(): void {
    this.#done = true
    clearTimeout(this.#hedge)
  }
}
