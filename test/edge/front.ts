import { after } from 'node:test'
import { Agent, request } from 'undici'
import { createProxy, type ProxyOptions, type ReverseProxy } from '../../src/edge/http/server.ts'
import { atEnd } from './at-end.ts'
import { startUpstreams, type Upstream } from './upstream.ts'

/** Frequent probes with a long timeout, so that a busy machine does not fail them. */
export const quickProbe = { intervalMs: 50, timeoutMs: 30_000 }

export interface Front {
  proxy: ReverseProxy
  url: string
  port: number
}

export async function front(upstreams: readonly Upstream[], options: Partial<ProxyOptions> = {}): Promise<Front> {
  const proxy = createProxy({ targets: upstreams.map(({ url }) => url), probe: quickProbe, ...options })
  atEnd(() => proxy.close())
  const url = await proxy.listen()
  return { proxy, url, port: Number(new URL(url).port) }
}

/** One upstream and a proxy in front of it. */
export async function pair(options: Partial<ProxyOptions> = {}): Promise<Front & { upstream: Upstream }> {
  const [upstream] = (await startUpstreams(1)) as [Upstream]
  return { upstream, ...(await front([upstream], options)) }
}

const agent = new Agent({ keepAliveTimeout: 1000 })
after(() => agent.close())

export async function get(
  url: string,
  options: Parameters<typeof request>[1] = {},
): Promise<{ status: number; headers: Record<string, string | string[] | undefined>; text: string }> {
  const response = await request(url, { dispatcher: agent, ...options })
  return { status: response.statusCode, headers: response.headers, text: await response.body.text() }
}
