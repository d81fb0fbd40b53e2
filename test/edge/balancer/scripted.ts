import type { Duplex } from 'node:stream'
import type { TestContext } from 'node:test'
import type { Dispatcher } from 'undici'
import { Balancer, type BalancerOptions } from '../../../src/edge/balancer/balancer.ts'
import type { Exchange } from '../../../src/edge/balancer/exchange.ts'
import { Target, type TargetOptions, type UpstreamRequest } from '../../../src/edge/balancer/target.ts'
import type { HeadHandler } from '../../../src/edge/http/wire/response-head.ts'
import { mockTime, type VirtualTime } from './virtual-time.ts'

/** One request that reached a target, whose response the test plays. */
export class Sent {
  /** Position of the target. */
  readonly to: number
  /** Asks a draining target to reject the request. */
  readonly rejectable: boolean
  readonly repeatable: boolean
  aborted: Error | undefined
  #ended = false
  readonly #handler: HeadHandler
  readonly #controller: Dispatcher.DispatchController

  constructor(to: number, handler: HeadHandler & { rejectable: boolean }, repeatable: boolean) {
    this.to = to
    this.rejectable = handler.rejectable
    this.repeatable = repeatable
    this.#handler = handler
    let paused = false
    const controller: Partial<Dispatcher.DispatchController> = {
      abort: (reason) => {
        this.aborted = reason
        this.#fail(reason)
      },
      get paused() {
        return paused
      },
      pause: () => {
        paused = true
      },
      resume: () => {
        paused = false
      },
    }
    this.#controller = controller as Dispatcher.DispatchController
  }

  get paused(): boolean {
    return this.#controller.paused
  }

  /** The request is written to the connection. */
  start(): this {
    this.#handler.onRequestStart?.(this.#controller, null)
    return this
  }

  head(status: number, { draining = false } = {}): this {
    this.#handler.onResponseHead?.(this.#controller, { status, message: '', headers: {}, draining })
    return this
  }

  upgrade(status: number, socket: Duplex): void {
    this.#handler.onRequestUpgrade?.(this.#controller, status, {}, socket)
  }

  data(text: string): this {
    this.#handler.onResponseData?.(this.#controller, Buffer.from(text))
    return this
  }

  end(): void {
    this.#ended = true
    this.#handler.onResponseEnd?.(this.#controller, {})
  }

  /** @param error or its code */
  fail(error: Error | string): void {
    this.#fail(typeof error === 'string' ? Object.assign(new Error(error), { code: error }) : error)
  }

  #fail(error: Error): void {
    if (this.#ended) return
    this.#ended = true
    this.#handler.onResponseError?.(this.#controller, error)
  }
}

/** What a client receives, in order: statuses, texts, and `end` or the code of an error. */
export interface Asked {
  readonly exchange: Exchange
  readonly events: (number | string)[]
}

export interface Script {
  readonly balancer: Balancer
  readonly time: VirtualTime
  /** All requests that reached a target, in order. */
  readonly sent: Sent[]
  /** The latest of them. */
  last(): Sent
  ask(request?: Partial<UpstreamRequest>, handler?: HeadHandler): Asked
  advance(ms: number): void
}

/** A balancer in virtual time whose targets do what the test says. Unless `options` say otherwise, none is ejected. */
export function script(
  t: TestContext,
  targets: number | readonly Partial<TargetOptions>[],
  options: BalancerOptions = {},
): Script {
  // A test may play several.
  t.mock.restoreAll()
  t.mock.timers.reset()
  const list = typeof targets === 'number' ? Array.from({ length: targets }, () => ({})) : targets
  const time = mockTime(t)
  t.mock.method(Math, 'random', () => 0)
  const balancer = new Balancer(
    list.map((target, i) => ({ url: `http://10.0.0.${i}:3000`, ...target })),
    { policy: 'round-robin', probe: { type: 'off' }, outliers: { consecutive: 0, maxEjectedShare: 0 }, ...options },
  )
  t.after(() => balancer.close())
  const sent: Sent[] = []
  t.mock.method(
    Target.prototype,
    'send',
    function (this: Target, ...[, handler, repeatable]: Parameters<Target['send']>) {
      sent.push(new Sent(balancer.targets.indexOf(this), handler, repeatable))
    },
  )
  return {
    balancer,
    time,
    sent,
    last: () => sent.at(-1) as Sent,
    ask: (request, handler) => {
      const events: (number | string)[] = []
      const recorder: HeadHandler = {
        onResponseStart: (_, status) => void events.push(status),
        onResponseData: (_, chunk) => void events.push(chunk.toString()),
        onResponseEnd: () => void events.push('end'),
        onResponseError: (_, error) => void events.push((error as { code?: string }).code ?? error.message),
        ...handler,
      }
      const exchange = balancer.dispatch({ path: '/', method: 'GET', ...request }, recorder)
      return { exchange, events }
    },
    advance: (ms) => {
      for (let i = 0; i < ms; i++) time.tick()
    },
  }
}
