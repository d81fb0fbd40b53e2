import type { Balancer } from '../balancer/balancer.ts'
import { internalErrors } from '../boundary.ts'

/** Upper bounds of the histogram, in milliseconds. */
const bounds = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000]

/**
 * What a proxy counts, and how Prometheus wants it (text format 0.0.4). Counting is adding to numbers, because it happens
 * for each request; text is made when somebody asks.
 */
export class ProxyMetrics {
  /** By class of status: index 1 is 1xx; 5 includes all that is above. */
  readonly #answers = [0, 0, 0, 0, 0, 0]
  /** One more than bounds: what is above all of them. */
  readonly #buckets: number[] = [...bounds, 0].map(() => 0)
  #count = 0
  #sumMs = 0
  /** The client left before its answer was complete. */
  #aborted = 0

  /** @param status 0 when the client left before there was one */
  answered(status: number, ms: number): void {
    if (status === 0) this.#aborted++
    // RFC 9110 section 15: what is above 599 is treated as a 5xx.
    else bump(this.#answers, Math.min(5, Math.floor(status / 100)))
    this.#count++
    this.#sumMs += ms
    let bucket = 0
    while (bucket < bounds.length && ms > (bounds[bucket] as number)) bucket++
    bump(this.#buckets, bucket)
  }

  text(balancer: Balancer, inflight: number, tunnels: number): string {
    const { stats, waitingRoom } = balancer.context
    let below = 0
    const histogram = bounds.map((bound, i) => {
      below += this.#buckets[i] ?? 0
      return [`{le="${bound / 1000}"}`, below] as const
    })
    const perTarget = (value: (target: Balancer['targets'][number]) => number) =>
      balancer.targets.map((target) => [labels({ target: target.url.host }), value(target)] as const)
    return [
      metric('fleet_proxy_requests_total', 'counter', 'Answers by class of status', [
        ...[1, 2, 3, 4, 5].map((kind) => [labels({ code: `${kind}xx` }), this.#answers[kind] ?? 0] as const),
        [labels({ code: 'aborted' }), this.#aborted],
      ]),
      metric('fleet_proxy_request_duration_seconds', 'histogram', 'From the request until its answer was sent', [
        ...histogram.map(([label, value]) => [`_bucket${label}`, value] as const),
        ['_bucket{le="+Inf"}', this.#count],
        ['_sum', this.#sumMs / 1000],
        ['_count', this.#count],
      ]),
      metric('fleet_proxy_inflight', 'gauge', 'Requests being answered', [['', inflight]]),
      metric('fleet_proxy_waiting', 'gauge', 'Requests that wait for a target', [['', waitingRoom.length]]),
      metric('fleet_proxy_tunnels', 'gauge', 'Open WebSockets', [['', tunnels]]),
      metric('fleet_proxy_retries_total', 'counter', 'Attempts after the first one', [['', stats.retries]]),
      metric('fleet_proxy_hedges_total', 'counter', 'Attempts beside the first one', [['', stats.hedges]]),
      metric('fleet_proxy_internal_errors_total', 'counter', 'Exceptions caught at a boundary; each is a bug', [
        ['', internalErrors()],
      ]),
      metric(
        'fleet_proxy_target_attempts_total',
        'counter',
        'Attempts by target',
        perTarget(({ served }) => served),
      ),
      metric(
        'fleet_proxy_target_failures_total',
        'counter',
        'Attempts that failed',
        perTarget(({ failed }) => failed),
      ),
      metric(
        'fleet_proxy_target_inflight',
        'gauge',
        'Requests in flight',
        perTarget(({ inflight: now }) => now),
      ),
      metric(
        'fleet_proxy_target_weight',
        'gauge',
        'Share of traffic',
        perTarget(({ weight }) => weight),
      ),
      metric(
        'fleet_proxy_target_state',
        'gauge',
        '1 for the state the target is in',
        balancer.targets.map(({ url, state }) => [labels({ target: url.host, state }), 1] as const),
      ),
    ].join('')
  }
}

const bump = (counts: number[], i: number): void => {
  counts[i] = (counts[i] as number) + 1
}

const labels = (pairs: Record<string, string>): string =>
  `{${Object.entries(pairs)
    .map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, '\\$&')}"`)
    .join(',')}}`

const metric = (name: string, type: string, help: string, values: readonly (readonly [string, number])[]): string =>
  `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${values.map(([label, value]) => `${name}${label} ${value}\n`).join('')}`
