import { setTimeout as delay } from 'node:timers/promises'
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
export const sweepEveryMs = 50
/** Time that plugins have to close after the deadline, ms. */
const lastGraceMs = 1_000

/** One shutdown. {@link Shutdown.run} lists the steps in order; the deadline starts in the constructor. */
export class Shutdown {
  readonly #app: FastifyInstance
  readonly #scopes: Iterable<FastifyInstance>
  readonly #connections: Connections
  readonly #times: ShutdownTimes
  readonly #deadline: AbortSignal
  #clean = true

  constructor(
    scopes: readonly [FastifyInstance, ...FastifyInstance[]],
    connections: Connections,
    times: ShutdownTimes,
  ) {
    this.#app = scopes[0]
    this.#scopes = scopes
    this.#connections = connections
    this.#times = times
    this.#deadline = AbortSignal.timeout(times.shutdownTimeoutMs)
  }

  /** @returns the exit code: 0, or 1 if the deadline cut anything */
  async run(lifecycle: Lifecycle, reason: string, handover: boolean): Promise<number> {
    this.#app.log.info({ reason, handover, inFlight: this.#connections.inFlight }, 'draining')
    if (!handover) lifecycle.move('draining', ['serving'])
    if (!handover && lifecycle.state === 'draining')
      await this.#pause(this.#times.drainDelayMs - lifecycle.drainingForMs)
    this.#connections.goAway()
    const evicted = evictWebSockets(this.#scopes, this.#times.evictWindowMs, this.#deadline)
    for (const response of this.#connections.responses()) if (isEventStream(response)) endStream(response)
    await this.#connections.stopListening()
    await evicted
    // WebSockets that were opened while the listener was still open.
    await evictWebSockets(this.#scopes, 0, this.#deadline)
    await this.#finish(handover ? handoverQuietMs : quietMs)
    lifecycle.move('closed', ['starting', 'serving', 'draining'])
    await this.#closePlugins()
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

  async #closePlugins(): Promise<void> {
    const failed = (err: unknown): void => this.#app.log.error({ err }, 'a plugin failed to close')
    const closed = this.#app
      .close()
      .catch(failed)
      .then(() => true)
    const late = new Promise<boolean>((resolve) => {
      const allowGrace = (): void => void setTimeout(resolve, lastGraceMs, false).unref()
      if (this.#deadline.aborted) allowGrace()
      else this.#deadline.addEventListener('abort', allowGrace, { once: true })
    })
    if (await Promise.race([closed, late])) return
    this.#clean = false
    this.#app.log.error('a plugin did not close before the shutdown deadline')
  }

  async #pause(ms: number): Promise<void> {
    await delay(Math.max(0, ms), undefined, { signal: this.#deadline }).catch(() => undefined)
  }
}
