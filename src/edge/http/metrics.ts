import type { Balancer } from '../balancer/balancer.ts'
import type { Target } from '../balancer/target.ts'
import { internalErrors } from '../boundary.ts'
import type { Pools } from './pools.ts'
import { type Labels, noLabels, type Sample, sample } from './request-times.ts'

/** The proxy's metrics in Prometheus' text format 0.0.4. They have the label `pool` if there are several pools. */
export function metricsText(pools: Pools, inflight: number, tunnels: number): string {
  const all = pools.all.map(({ name, balancer, times }) => ({
    labels: pools.all.length > 1 ? { pool: name } : noLabels,
    ...{ balancer, times },
  }))
  const times = pools.unrouted === pools.default.times ? all : [...all, { labels: noLabels, times: pools.unrouted }]
  const perPool = (value: (balancer: Balancer) => number): Sample[] =>
    all.map(({ labels, balancer }) => sample(labels, value(balancer)))
  const perTarget = (value: (target: Target) => number, more?: (target: Target) => Labels): Sample[] =>
    all.flatMap(({ labels, balancer: { targets } }) =>
      targets.map((target) => sample({ target: target.url.host, ...more?.(target), ...labels }, value(target))),
    )
  return [
    metric(
      'fleet_proxy_requests_total',
      'counter',
      'Responses by status class',
      times.flatMap((each) => each.times.responses(each.labels)),
    ),
    metric(
      'fleet_proxy_request_duration_seconds',
      'histogram',
      'Time from the request to the end of its response',
      times.flatMap((each) => each.times.durations(each.labels)),
    ),
    metric('fleet_proxy_inflight', 'gauge', 'Requests in flight', [sample(noLabels, inflight)]),
    metric(
      'fleet_proxy_waiting',
      'gauge',
      'Requests waiting for a target',
      perPool(({ context }) => context.waitingRoom.length),
    ),
    metric('fleet_proxy_tunnels', 'gauge', 'Open WebSockets', [sample(noLabels, tunnels)]),
    metric(
      'fleet_proxy_retries_total',
      'counter',
      'Attempts after the first',
      perPool(({ context }) => context.stats.retries),
    ),
    metric(
      'fleet_proxy_hedges_total',
      'counter',
      'Hedged attempts, in parallel with the first',
      perPool(({ context }) => context.stats.hedges),
    ),
    metric('fleet_proxy_internal_errors_total', 'counter', 'Exceptions caught at a boundary; each is a bug', [
      sample(noLabels, internalErrors()),
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
      'Failed attempts by target',
      perTarget(({ failed }) => failed),
    ),
    metric(
      'fleet_proxy_target_inflight',
      'gauge',
      'Requests in flight by target',
      perTarget((target) => target.inflight),
    ),
    metric(
      'fleet_proxy_target_weight',
      'gauge',
      'Weight of the target',
      perTarget(({ weight }) => weight),
    ),
    metric(
      'fleet_proxy_target_state',
      'gauge',
      '1 for the current state of the target',
      perTarget(
        () => 1,
        ({ state }) => ({ state }),
      ),
    ),
  ].join('')
}

const metric = (name: string, type: string, help: string, samples: readonly Sample[]): string =>
  `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${samples.map(([labels, value]) => `${name}${labels} ${value}\n`).join('')}`
