// The balancer: targets, their health, the choice between them, and retries. Read on in this order:
//   target.ts         one upstream: address, weight, state, connections
//   rotation.ts       which targets may be chosen: lists by state; slow start
//   policies/         which of them is chosen
//   exchange.ts       one request: its attempts (attempt.ts), retries (retry-rules.ts, retry-budget.ts) and hedging;
//                     waiting-room.ts holds it while no target is free
//   ../probe.ts, outliers.ts  active and passive health checks, which move targets between states
//   discovery.ts, follower.ts  sources of targets
// `Balancer` below connects them. The HTTP proxy (../http/server.ts) and the TCP proxy (../tcp/index.ts) are built on it.
import { performance } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import type { Dispatcher } from 'undici'
import { undici } from '../../base/internals/undici.ts'
import { resolveOptions } from '../../base/options.ts'
import { urlAt } from '../../base/urls.ts'
import { Prober, type Verdict } from '../probe.ts'
import type { BalancerContext, Failure } from './context.ts'
import { Exchange } from './exchange.ts'
import { Follower } from './follower.ts'
import { askLoad } from './load.ts'
import { type BalancerOptions, balancerOptions, type ResolvedBalancerOptions } from './options.ts'
import { Outliers } from './outliers.ts'
import { createPolicy, type PickInput, type Policy } from './policies/index.ts'
import { RetryBudget } from './retry-budget.ts'
import { Rotation, rotationOptions, type StateListener } from './rotation.ts'
import { Target, type TargetOptions, type UpstreamRequest } from './target.ts'
import { WaitingRoom } from './waiting-room.ts'

export type { BalancerOptions } from './options.ts'
export { type PickInput, type Policy, type PolicyName, policyNames } from './policies/index.ts'

/** How long `ready()` waits for the first list from a source of targets, in milliseconds. */
const sourceTimeoutMs = 5000

const noClient: PickInput = { client: '', headers: {} }

type RequestInit = Omit<Dispatcher.RequestOptions, 'path' | 'method' | 'origin'> & { method?: Dispatcher.HttpMethod }

/**
 * The dispatcher that the global `fetch` accepts. @types/node has its own copy of undici's types, of another version; those
 * of a browser have no dispatcher.
 */
type FetchDispatcher =
  NonNullable<Parameters<typeof fetch>[1]> extends { dispatcher?: infer D } ? NonNullable<D> : unknown

/**
 * Holds targets, tracks their health, chooses one for each request, and retries on another one where that is safe. The
 * HTTP and TCP proxies are built on it; on its own it is a client-side load balancer.
 *
 * @example
 * const balancer = new Balancer(['http://10.0.0.1:3000', 'http://10.0.0.2:3000'], { policy: 'two-choices' })
 * const { statusCode, body } = await balancer.request('/api/v1/me')
 * const response = await fetch('http://shop/api/v1/me', { dispatcher: balancer.dispatcher })
 */
export class Balancer {
  readonly options: ResolvedBalancerOptions
  /** For `fetch(url, { dispatcher })`, Node's own or undici's. Only the path and query of the URL are used. */
  readonly dispatcher: Dispatcher & FetchDispatcher
  /** Internal; shared with the proxies. */
  readonly context: BalancerContext
  readonly #policy: Policy
  readonly #rotation: Rotation
  readonly #prober: Prober<Target>
  readonly #outliers: Outliers
  readonly #follower?: Follower
  #closed: Promise<void> | undefined

  /**
   * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID, FLEET_ERR_TARGET_INVALID, and with `sticky-cookie`
   * FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK
   */
  constructor(targets: readonly (string | TargetOptions)[], options: BalancerOptions = {}) {
    const resolved = resolveOptions('balancer', balancerOptions, options)
    const { policy, probe, retry, queue } = resolved
    this.options = resolved
    this.#policy =
      typeof policy === 'string' ? createPolicy(policy, resolved, (target) => askLoad(target, probe.path)) : policy
    this.#rotation = new Rotation(this.#policy, resolved)
    this.#prober = new Prober(probe, (target, verdict) => this.#onVerdict(target, verdict))
    this.#outliers = new Outliers(
      resolved.outliers,
      () => this.targets,
      (target, ejected) => this.#onOutlier(target, ejected),
    )
    const waitingRoom = new WaitingRoom(queue.size)
    this.context = {
      rotation: this.#rotation,
      waitingRoom,
      budget: new RetryBudget(retry.budget, retry.minPerSecond, performance.now()),
      retry,
      waitMs: queue.timeoutMs,
      stats: { retries: 0, hedges: 0 },
      draining: (target) => this.drain(target),
      recordOutcome: (target, status, failure, startedAt) => this.#recordOutcome(target, status, failure, startedAt),
      settle: (target) => {
        this.#rotation.settle(target)
        if (target.onTrial && waitingRoom.length > 0) waitingRoom.wake(1)
      },
      release: (target) => {
        this.#rotation.end(target)
        // While no target is up, only one that responds is of use, for example one that drains. Waiting requests that are
        // woken for one that refuses would wake each other without end.
        if (waitingRoom.length > 0 && (this.#rotation.up > 0 || !target.failing)) waitingRoom.wake(1)
      },
    }
    this.#rotation.onState((target, before) => {
      // All other changes are by the probe or a drain: the target restarts or recovers, and its past failures no longer count.
      const isEjection = target.state === 'ejected' || (before === 'ejected' && target.state === 'up')
      if (!isEjection) this.#outliers.forget(target)
      if (target.state === 'up') waitingRoom.wake()
      else target.disconnect()
    })
    this.dispatcher = balancedDispatcher(this)
    for (const target of targets) this.add(target)
    if (resolved.discover) this.#follower = new Follower(this, resolved.discover)
  }

  get targets(): readonly Target[] {
    return this.#rotation.targets
  }

  /** Calls `listener` whenever a target changes its state. */
  onState(listener: StateListener): void {
    this.#rotation.onState(listener)
  }

  /** @throws FLEET_ERR_TARGET_INVALID, FLEET_ERR_OPTION_INVALID */
  add(options: string | TargetOptions): Target {
    const given = typeof options === 'string' ? { url: options } : options
    const target = new Target(given, this.options.connections)
    this.#rotation.add(target)
    if (this.options.probe.type === 'off') this.#rotation.move(target, 'up')
    else this.#prober.watch(target)
    return target
  }

  /** Removes a target. Requests in flight to it complete; it receives no new ones. */
  async remove(target: Target): Promise<void> {
    this.#prober.unwatch(target)
    this.#outliers.forget(target)
    this.#rotation.remove(target)
    await target.disconnect()
  }

  /** @param weight 0 to 1000; with 0 the target receives no new requests */
  reweigh(target: Target, weight: number): void {
    this.#rotation.reweigh(target, weight)
  }

  /** Percentage of clients that get a canary, see the option; it can be changed at any time. */
  get canaryPercent(): number {
    return this.#rotation.canaryPercent
  }

  /** @throws FLEET_ERR_OPTION_INVALID */
  set canaryPercent(percent: number) {
    const { canaryPercent } = resolveOptions(
      'balancer',
      { canaryPercent: rotationOptions.canaryPercent },
      { canaryPercent: percent },
    )
    this.#rotation.canaryPercent = canaryPercent
  }

  /** Takes a target out of rotation until it passes its probe again. */
  drain(target: Target): void {
    if (target.state === 'draining') return
    this.#rotation.move(target, 'draining')
    this.#prober.doubt(target)
  }

  /** Reverts {@link Balancer.drain}. A probed target returns once it passes its probes. */
  undrain(target: Target): void {
    if (target.state !== 'draining') return
    if (this.options.probe.type === 'off') this.#rotation.move(target, 'up')
    else this.#prober.doubt(target)
  }

  /** Resolves when the targets are known and each was probed once, so that the first request avoids dead targets. */
  async ready(): Promise<void> {
    // An unavailable source must not keep the balancer from starting.
    if (this.#follower) {
      const known = new AbortController()
      const late = delay(sourceTimeoutMs, undefined, { signal: known.signal }).catch(() => undefined)
      await Promise.race([this.#follower.first, late])
      known.abort()
    }
    await new Promise<void>((resolve) => {
      const check = (): void => {
        if (this.targets.every(({ state }) => state !== 'unproven')) resolve()
      }
      this.#rotation.onState(check)
      check()
    })
  }

  /** Sends one request, like undici's `request`; `path` starts with `/`. */
  request(path: string, init: RequestInit = {}): Promise<Dispatcher.ResponseData> {
    return undici().request(urlAt('http://balancer', path), { ...init, dispatcher: this.dispatcher } as never)
  }

  /** Like undici's `dispatch`, with information about the client for the policy. */
  dispatch(options: UpstreamRequest, handler: Dispatcher.DispatchHandler, input: PickInput = noClient): Exchange {
    const exchange = new Exchange(this.context, options, handler, input)
    exchange.start()
    return exchange
  }

  /** Stops probing, lets requests in flight complete, and closes connections. */
  close(): Promise<void> {
    this.#closed ??= this.#end()
    return this.#closed
  }

  async #end(): Promise<void> {
    this.#follower?.close()
    this.#prober.close()
    this.#outliers.close()
    this.#policy.close?.()
    await Promise.all(this.targets.map((target) => target.disconnect()))
  }

  #onVerdict(target: Target, verdict: Verdict): void {
    // A passed probe proves only that the target responds; an ejection is about the quality of its responses.
    if (verdict === 'pass' && target.state === 'ejected') return
    this.#rotation.move(target, ({ pass: 'up', fail: 'down', draining: 'draining' } as const)[verdict])
  }

  #onOutlier(target: Target, ejected: boolean): void {
    this.#rotation.move(target, ejected ? 'ejected' : 'up')
  }

  /** @returns true when the target is to blame, see {@link Outliers.observe} */
  #recordOutcome(target: Target, status: number, failure: Failure | undefined, startedAt: number): boolean {
    const now = performance.now()
    const ms = now - startedAt
    const failed = failure !== undefined || isFailure(status)
    target.served++
    target.failing = failed
    if (failed) {
      target.failed++
      target.latency.punish(now)
    } else target.latency.observe(ms, now)
    const { onTrial } = target
    const blamed = this.#outliers.observe(target, failed, ms)
    // Requests may have waited because all targets were on trial.
    if (onTrial && !target.onTrial && target.state === 'up') this.context.waitingRoom.wake()
    if (failure !== 'refused') return blamed
    if (this.options.probe.type === 'off') this.#outliers.eject(target)
    else {
      this.#rotation.move(target, 'down')
      this.#prober.doubt(target)
    }
    return blamed
  }
}

/** A dispatcher for Node's own `fetch` and for undici's that sends every request through `balancer`. */
function balancedDispatcher(balancer: Balancer): Balancer['dispatcher'] {
  const { Dispatcher, Dispatcher1Wrapper } = undici()
  class BalancedDispatcher extends Dispatcher {
    override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
      balancer.dispatch(options, handler)
      return true
    }

    override close(): Promise<void> {
      return balancer.close()
    }
  }
  return new Dispatcher1Wrapper(new BalancedDispatcher()) as Dispatcher as Balancer['dispatcher']
}

/** 501 and 505 describe the request, not the target. */
const isFailure = (status: number): boolean => status >= 500 && status !== 501 && status !== 505
