import type { Balancer } from '../balancer/balancer.ts'
import type { Target } from '../balancer/target.ts'
import { internalErrors } from '../boundary.ts'

/** Upper bounds of the histogram's buckets, in milliseconds. */
const bounds = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000]

/**
 * The proxy's metrics in Prometheus' text format 0.0.4. A request only increments numbers; the text is made when it is
 * scraped.
 */
export class ProxyMetrics {
  /** By status class: index 1 is 1xx; index 5 includes statuses above 599. */
  readonly #responses = [0, 0, 0, 0, 0, 0]
  /** One more than `bounds`, for durations above all of them. */
  readonly #buckets: number[] = [...bounds, 0].map(() => 0)
  #count = 0
  #sumMs = 0
  /** Requests whose client disconnected before the response started. */
  #aborted = 0

  /** @param status 0 when the client disconnected before the response started */
  observe(status: number, ms: number): void {
    if (status === 0) this.#aborted++
    // RFC 9110 section 15: statuses above 599 are treated as 5xx.
    else bump(this.#responses, Math.min(5, Math.floor(status / 100)))
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
    const perTarget = (name: string, type: string, help: string, value: (target: Target) => number): string => {
      const values = balancer.targets.map((target) => [labels({ target: target.url.host }), value(target)] as const)
      return metric(name, type, help, values)
    }
    return [
      metric('fleet_proxy_requests_total', 'counter', 'Responses by status class', [
        ...[1, 2, 3, 4, 5].map((digit) => [labels({ code: `${digit}xx` }), this.#responses[digit] ?? 0] as const),
        [labels({ code: 'aborted' }), this.#aborted],
      ]),
      metric('fleet_proxy_request_duration_seconds', 'histogram', 'Time from the request to the end of its response', [
        ...histogram.map(([label, value]) => [`_bucket${label}`, value] as const),
        ['_bucket{le="+Inf"}', this.#count],
        ['_sum', this.#sumMs / 1000],
        ['_count', this.#count],
      ]),
      metric('fleet_proxy_inflight', 'gauge', 'Requests in flight', [['', inflight]]),
      metric('fleet_proxy_waiting', 'gauge', 'Requests waiting for a target', [['', waitingRoom.length]]),
      metric('fleet_proxy_tunnels', 'gauge', 'Open WebSockets', [['', tunnels]]),
      metric('fleet_proxy_retries_total', 'counter', 'Attempts after the first', [['', stats.retries]]),
      metric('fleet_proxy_hedges_total', 'counter', 'Hedged attempts, in parallel with the first', [
        ['', stats.hedges],
      ]),
      metric('fleet_proxy_internal_errors_total', 'counter', 'Exceptions caught at a boundary; each is a bug', [
        ['', internalErrors()],
      ]),
      perTarget('fleet_proxy_target_attempts_total', 'counter', 'Attempts by target', ({ served }) => served),
      perTarget('fleet_proxy_target_failures_total', 'counter', 'Failed attempts by target', ({ failed }) => failed),
      perTarget('fleet_proxy_target_inflight', 'gauge', 'Requests in flight by target', (target) => target.inflight),
      perTarget('fleet_proxy_target_weight', 'gauge', 'Weight of the target', ({ weight }) => weight),
      metric(
        'fleet_proxy_target_state',
        'gauge',
        '1 for the current state of the target',
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
