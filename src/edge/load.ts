import { performance } from 'node:perf_hooks'
import type { Load } from './policies/index.ts'
import type { Target } from './target.ts'

/**
 * Asks a target how loaded it is, over one of its own connections. An instance of a fleet tells in `X-Fleet-Load`
 * (`inflight=12, latency=3.4`, a dictionary of RFC 8941); of any other server counts what is known here: the requests this
 * balancer has there, and their latency.
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
  const told = /^inflight=(\d+), latency=([\d.]+)$/.exec(String(headers['x-fleet-load'] ?? ''))
  return told
    ? { inflight: Number(told[1]), latencyMs: Number(told[2]) }
    : { inflight: target.inflight, latencyMs: target.latency.at(performance.now()) }
}
