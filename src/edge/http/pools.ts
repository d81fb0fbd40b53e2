import { FleetError } from '../../base/errors.ts'
import { defaultPool } from '../../base/pool-name.ts'
import { Balancer } from '../balancer/balancer.ts'
import type { Target } from '../balancer/target.ts'
import type { ResolvedPool } from './pool-options.ts'
import { RequestTimes } from './request-times.ts'
import type { Router } from './routes.ts'

/** Seconds after which a client may try again during maintenance. */
const maintenanceRetrySeconds = 30

/** The targets of some routes. Targets, health, queue and retry budget are its own, so no pool can exhaust another one. */
export class ProxyPool {
  readonly name: string
  readonly balancer: Balancer
  readonly maxBodyBytes: number
  /** Whether every request of the pool gets 503; it can be changed at any time. */
  maintenance: boolean
  /** Internal; for the metrics. */
  readonly times: RequestTimes = new RequestTimes()

  /** Use {@link createProxy}. */
  constructor({ name, targets, balancer, maxBodyBytes, maintenance }: ResolvedPool) {
    this.name = name
    this.balancer = new Balancer(targets, balancer)
    this.maxBodyBytes = maxBodyBytes
    this.maintenance = maintenance
  }

  /** Internal; why a request with a body of this length is not sent to a target. */
  rejects(length: number): FleetError | undefined {
    const { maxBodyBytes } = this
    if (this.maintenance) {
      return new FleetError('FLEET_ERR_MAINTENANCE', undefined, { retryAfter: maintenanceRetrySeconds })
    }
    return maxBodyBytes > 0 && length > maxBodyBytes && length !== Number.POSITIVE_INFINITY
      ? new FleetError('FLEET_ERR_BODY_TOO_LARGE', `at most ${maxBodyBytes} bytes`)
      : undefined
  }
}

/** The pools of a proxy, and the routes to them. */
export class Pools {
  readonly default: ProxyPool
  /** The default pool is the first. */
  readonly byName: ReadonlyMap<string, ProxyPool>
  /** Requests without a pool, because they were rejected before; those of the default pool if there is no other. */
  readonly unrouted: RequestTimes
  readonly #router: Router<string> | undefined

  /**
   * @param pools with the default pool
   * @throws the errors of {@link Balancer}
   */
  constructor(pools: readonly ResolvedPool[], router: Router<string> | undefined) {
    this.byName = create(pools)
    this.default = this.byName.get(defaultPool) as ProxyPool
    this.unrouted = this.byName.size > 1 ? new RequestTimes() : this.default.times
    this.#router = router
  }

  get all(): readonly ProxyPool[] {
    return [...this.byName.values()]
  }

  get targets(): readonly Target[] {
    return this.all.flatMap(({ balancer }) => balancer.targets)
  }

  /** @param path canonical @param host the request's authority */
  find(path: string, host: string, headers: Parameters<Router<string>['find']>[2]): ProxyPool {
    const name = this.#router?.find(path, host, headers)
    return name === undefined ? this.default : (this.byName.get(name) as ProxyPool)
  }

  async ready(): Promise<void> {
    await Promise.all(this.all.map(({ balancer }) => balancer.ready()))
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map(({ balancer }) => balancer.close()))
  }
}

/** @throws the errors of {@link Balancer}; then no balancer is left open */
function create(pools: readonly ResolvedPool[]): Map<string, ProxyPool> {
  const created = new Map<string, ProxyPool>()
  try {
    for (const pool of pools) created.set(pool.name, new ProxyPool(pool))
  } catch (error) {
    for (const { balancer } of created.values()) void balancer.close()
    throw error
  }
  return created
}
