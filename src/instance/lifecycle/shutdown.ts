import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Connections } from './connections.ts'
import type { Lifecycle } from './state.ts'
import { endStream, evictWebSockets, isEventStream } from './streams.ts'

export interface DepartureOptions {
  readonly shutdownTimeoutMs: number
  readonly drainDelayMs: number
  readonly evictWindowMs: number
}

/** How long a kept-alive socket must be silent after the listener closed before it is taken for idle, ms. */
export const quietMs = 250
/**
 * The same in a handover, where nobody waits for the port. Most clients that are going to use a connection again do so
 * meanwhile, and are told then: a request sent to a socket at the moment it is closed is lost, and a POST not repeated.
 */
const handoverQuietMs = 2_000
/** How often sockets are looked at while the instance closes, ms. */
export const sweepEveryMs = 50
/** What plugins get to close when the deadline has already passed, ms. */
const lastGraceMs = 1_000

/** One departure, in the order of the steps it takes. */
export class Departure {
  readonly #app: FastifyInstance
  readonly #scopes: Iterable<FastifyInstance>
  readonly #connections: Connections
  readonly #options: DepartureOptions
  readonly #deadline: AbortSignal
  #clean = true

  constructor(
    scopes: readonly [FastifyInstance, ...FastifyInstance[]],
    connections: Connections,
    options: DepartureOptions,
  ) {
    this.#app = scopes[0]
    this.#scopes = scopes
    this.#connections = connections
    this.#options = options
    this.#deadline = AbortSignal.timeout(options.shutdownTimeoutMs)
  }

  async run(life: Lifecycle, handover: boolean): Promise<number> {
    if (!handover) life.move('draining', ['serving'])
    if (!handover && life.state === 'draining') await this.#pause(this.#options.drainDelayMs - life.drainingForMs)
    this.#connections.goAway()
    const evicted = evictWebSockets(this.#scopes, this.#options.evictWindowMs, this.#deadline)
    for (const response of this.#connections.responses()) if (isEventStream(response)) endStream(response)
    await this.#connections.stopListening()
    await evicted
    // Those that came in while the listener was still open.
    await evictWebSockets(this.#scopes, 0, this.#deadline)
    await this.#finish(handover ? handoverQuietMs : quietMs)
    life.move('closed', ['starting', 'serving', 'draining'])
    await this.#closePlugins()
    return this.#clean ? 0 : 1
  }

  /** In-flight work ends and sockets turn idle, or the deadline cuts what is left. */
  async #finish(quietMs: number): Promise<void> {
    while (this.#connections.open > 0 && !this.#deadline.aborted) {
      this.#connections.sweep(quietMs)
      for (const response of this.#connections.responses()) if (isEventStream(response)) endStream(response)
      await this.#pause(sweepEveryMs)
    }
    const unanswered = this.#connections.unanswered()
    if (unanswered.length > 0) {
      this.#clean = false
      for (const request of unanswered) this.#app.log.error(request, 'request cut at the shutdown deadline')
    }
    this.#connections.cut()
  }

  async #closePlugins(): Promise<void> {
    const closed = this.#app.close().then(
      () => true,
      (err: unknown) => {
        this.#app.log.error({ err }, 'a plugin failed to close')
        return true
      },
    )
    const late = new Promise<boolean>((resolve) => {
      const give = (): void => void setTimeout(resolve, lastGraceMs, false).unref()
      if (this.#deadline.aborted) give()
      else this.#deadline.addEventListener('abort', give, { once: true })
    })
    if (await Promise.race([closed, late])) return
    this.#clean = false
    this.#app.log.error('a plugin did not close before the shutdown deadline')
  }

  async #pause(ms: number): Promise<void> {
    await delay(Math.max(0, ms), undefined, { signal: this.#deadline }).catch(() => undefined)
  }
}
