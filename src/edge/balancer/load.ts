import { performance } from 'node:perf_hooks'
import type { Load } from './policies/index.ts'
import type { Target } from './target.ts'

/**
 * Asks a target for its load, over one of its pooled connections. Instances report it in `X-Fleet-Load` (`inflight=12,
 * latency=3.4`, a dictionary of RFC 8941). Without that header, this balancer's own figures are used: its requests in
 * flight there and their latency. The same holds while the target's latest response was a failure: fast failures would
 * look like low load. The reported latency is a median over some seconds; the higher of both latencies counts.
 *
 * @throws the error of undici when the target does not respond
 */
export async function askLoad(target: Target, path: string): Promise<Load> {
  const { headers, body } = await target.pool(true).request({
    path,
    method: 'GET',
    headers: { 'x-fleet-load': '?1' },
    headersTimeout: 1000,
    bodyTimeout: 1000,
  })
  await body.dump()
  const reported = /^inflight=(\d{1,9}), latency=(\d{1,9}(?:\.\d{1,20})?)$/.exec(String(headers['x-fleet-load'] ?? ''))
  const latencyMs = target.latency.at(performance.now())
  return reported && !target.failing
    ? { inflight: Number(reported[1]), latencyMs: Math.max(Number(reported[2]), latencyMs) }
    : { inflight: target.inflight, latencyMs }
}
