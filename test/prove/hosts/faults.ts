import { hasNetem } from './network.ts'
import { instanceHosts, type Site } from './site.ts'
import type { Fault } from './table.ts'

/** Share of lost packets of a lossy link. */
const loss = 0.05

/** Causes each fault of the table. @returns what the report should say about it */
export const causes: { readonly [F in Fault]: (site: Site) => Promise<void> | string | void } = {
  dies: async (site) => {
    await site.die('host-3')
  },
  'is cut off': ({ network }) => network.cut('host-3'),
  'receives nothing': ({ network }) => network.drop(undefined, 'host-3'),
  'sends nothing': ({ network }) => network.drop('host-3', undefined),
  'is slow': ({ network }) => {
    const netem = hasNetem(network)
    // Each response waits for its turn on the link, some hundred milliseconds under load. The queue has space for all
    // requests of the clients, so that the link is slow but drops nothing.
    const discipline = netem
      ? ['netem', 'delay', '100ms']
      : ['tbf', 'rate', '400kbit', 'burst', '3000', 'limit', '100000']
    network.slow('host-3', ...discipline)
    return netem ? undefined : 'a link of 400 kbit/s instead of a delay: the kernel has no sch_netem'
  },
  'loses packets': ({ network }) => {
    network.lose('host-3', loss)
    return `${loss * 100} % of the packets in each direction`
  },
  'Redis and host 3': ({ network }) => network.cut('redis', 'host-3'),
  'Redis and all hosts': ({ network }) => {
    for (const host of instanceHosts) network.cut('redis', host)
  },
  'PostgreSQL and host 3': ({ network }) => network.cut('postgres', 'host-3'),
  'Redis, PostgreSQL and all hosts': ({ network }) => {
    for (const host of instanceHosts) for (const store of ['redis', 'postgres'] as const) network.cut(store, host)
  },
  'front 1 and host 3': ({ network }) => network.cut('front-1', 'host-3'),
  'front 1 and Redis': ({ network }) => network.cut('front-1', 'redis'),
}
