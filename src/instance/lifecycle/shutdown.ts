import { once } from 'node:events'
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Connections } from './connections.ts'
import type { Lifecycle } from './state.ts'
import { endStream, evictWebSockets, isEventStream } from './streams.ts'

export interface ShutdownTimes {
  readonly shutdownTimeoutMs: number
  readonly drainDelayMs: number
  readonly evictWindowMs: number
}

/** Time without data after which a keep-alive socket counts as idle once the listener has closed, ms. */
export const quietMs = 250
/**
 * The same in a handover. In a handover nothing waits for this process to release the port, so it can afford longer. Most clients that reuse a connection do so in this
 * time and then get `Connection: close`. A request that is sent while its socket is closed is lost, and clients do not
 * repeat a POST.
 */
const handoverQuietMs = 2_000
/** Interval at which sockets are checked during a shutdown, ms. */
const sweepEveryMs = 50
/** Time that plugins have to close after the deadline, ms. */
const lastGraceMs = 1_000
/** Fastify cannot close before all plugins are loaded. An app that never listened waits no longer than this for them, ms. */
const bootGraceMs = 300

export interface ShutdownHooks {
  /** Fastify's own `close`. */
  close(): Promise<unknown>
  /** Resolves once Fastify has started to close. */
  readonly closing: Promise<unknown>
  /** Awaited before Fastify closes, at most until the deadline. */
  readonly drained: readonly (() => Promise<unknown>)[]
  /** Awaited before the listener closes, at most until the deadline. */
  beforeListenerCloses(): Promise<unknown>
}

/** One shutdown. {@link Shutdown.run} lists the steps in order; the deadline starts in the constructor. */
export class Shutdown {
  readonly #app: FastifyInstance
  readonly #scopes: Iterable<FastifyInstance>
  readonly #connections: Connections
  readonly #times: ShutdownTimes
  readonly #hooks: ShutdownHooks
  readonly #deadline: AbortSignal
  /** It keeps the process alive: an `onClose` hook may wait for something that does not. */
  readonly #timer: NodeJS.Timeout
  #clean = true

  constructor(
    scopes: readonly [FastifyInstance, ...FastifyInstance[]],
    connections: Connections,
    times: ShutdownTimes,
    hooks: ShutdownHooks,
  ) {
    this.#app = scopes[0]
    this.#scopes = scopes
    this.#connections = connections
    this.#times = times
    this.#hooks = hooks
    const deadline = new AbortController()
    this.#deadline = deadline.signal
    this.#timer = setTimeout(() => deadline.abort(), times.shutdownTimeoutMs)
  }

  /** @returns the exit code: 0, or 1 if the deadline cut anything */
  async run(lifecycle: Lifecycle, reason: string, handover: boolean): Promise<number> {
    this.#app.log.info({ reason, handover, inFlight: this.#connections.inFlight }, 'draining')
    if (!handover) lifecycle.move('draining', ['serving'])
    if (!handover && lifecycle.state === 'draining')
      await this.#pause(this.#times.drainDelayMs - lifecycle.drainingForMs)
    this.#connections.goAway()
    const drained = Promise.all(this.#hooks.drained.map((wait) => wait()))
    const evicted = evictWebSockets(this.#scopes, this.#times.evictWindowMs, this.#deadline)
    for (const response of this.#connections.responses()) if (isEventStream(response)) endStream(response)
    await Promise.race([this.#hooks.beforeListenerCloses(), this.#late(0)])
    await this.#connections.stopListening()
    await evicted
    // WebSockets that were opened while the listener was still open.
    await evictWebSockets(this.#scopes, 0, this.#deadline)
    await this.#finish(handover ? handoverQuietMs : quietMs)
    await Promise.race([drained, this.#late(0)])
    const served = lifecycle.state !== 'starting'
    lifecycle.move('closed', ['starting', 'serving', 'draining'])
    await this.#closePlugins(served)
    clearTimeout(this.#timer)
    const code = this.#clean ? 0 : 1
    this.#app.log.info({ code }, 'closed')
    return code
  }

  /** Waits until requests have finished and sockets are idle; the deadline cuts the rest. */
  async #finish(quietMs: number): Promise<void> {
    while (this.#connections.open > 0 && !this.#deadline.aborted) {
      this.#connections.sweep(quietMs)
      for (const response of this.#connections.responses()) if (isEventStream(response)) endStream(response)
      await this.#pause(sweepEveryMs)
    }
    const unfinished = this.#connections.unfinished()
    if (unfinished.length > 0) {
      this.#clean = false
      for (const request of unfinished) this.#app.log.error(request, 'request cut at the shutdown deadline')
    }
    this.#connections.destroy()
  }

  async #closePlugins(served: boolean): Promise<void> {
    const failed = (err: unknown): void => this.#app.log.error({ err }, 'a plugin failed to close')
    const closed = this.#hooks.close().catch(failed)
    if (!served && !(await settles(this.#hooks.closing, bootGraceMs))) {
      this.#app.log.warn('exiting before all plugins are loaded')
      return
    }
    if (await Promise.race([closed.then(() => true), this.#late(lastGraceMs)])) return
    this.#clean = false
    this.#app.log.error('a plugin did not close before the shutdown deadline')
  }

  /** Resolves to false some time after the deadline. */
  async #late(graceMs: number): Promise<false> {
    if (!this.#deadline.aborted) await once(this.#deadline, 'abort')
    await delay(graceMs)
    return false
  }

  async #pause(ms: number): Promise<void> {
    if (ms > 0) await delay(ms, undefined, { signal: this.#deadline }).catch(() => undefined)
  }
}

/** Whether a promise resolves in time. The immediate lets an event loop that was blocked catch up first. */
async function settles(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const timer = new AbortController()
  const late = delay(ms, false, { signal: timer.signal }).then(() => nextTurn(false))
  const settled = await Promise.race([promise.then(() => true), late.catch(() => false)])
  timer.abort()
  return settled
}
