import { Balancer, type BalancerOptions } from '../../../src/edge/balancer/balancer.ts'
import { atEnd } from '../at-end.ts'
import { quickProbe } from '../front.ts'
import type { Upstream } from '../upstream.ts'

export async function balance(upstreams: readonly Upstream[], options: BalancerOptions = {}): Promise<Balancer> {
  const balancer = new Balancer(
    upstreams.map(({ url }) => url),
    { probe: quickProbe, ...options },
  )
  atEnd(() => balancer.close())
  await balancer.ready()
  return balancer
}

export const get = async (balancer: Balancer, path = '/', init: Parameters<Balancer['request']>[1] = {}) => {
  const { statusCode, headers, body } = await balancer.request(path, init)
  return { status: statusCode, headers, text: await body.text() }
}
export const nameOf = ({ text }: { text: string }): string => JSON.parse(text).name
export const executions = (upstreams: readonly Upstream[]): string[] => upstreams.flatMap(({ seen }) => seen)
