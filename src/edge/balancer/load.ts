import { performance } from 'node:perf_hooks'
import type { Load } from './policies/index.ts'
import type { Target } from './target.ts'

/**
 * Asks a target how loaded it is, over one of its own connections. It may tell in `X-Fleet-Load` (`inflight=12,
 * latency=3.4`, a dictionary of RFC 8941), as instances do; else counts what is known here: the requests this balancer has
 * there, and their latency. So it does of one whose latest answer was a failure: it may be proud of how fast it fails.
 * What it tells is its median of some seconds; when it was slower here, it is believed to be that slow.
 *
 * @throws whatever undici throws when it does not answer
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
  const told = /^inflight=(\d{1,9}), latency=(\d{1,9}(?:\.\d{1,20})?)$/.exec(String(headers['x-fleet-load'] ?? ''))
  const latencyMs = target.latency.at(performance.now())
  return told && !target.failing
    ? { inflight: Number(told[1]), latencyMs: Math.max(Number(told[2]), latencyMs) }
    : { inflight: target.inflight, latencyMs }
}
