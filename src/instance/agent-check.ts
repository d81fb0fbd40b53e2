import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import type { FastifyPluginAsync } from 'fastify'
import { ensure } from '../base/ensure.ts'
import { int, number, type OptionsOf, type Resolved, resolveOptions, text } from '../base/options.ts'
import { endConnection, guardConnections, RecentConnections } from '../base/socket-bounds.ts'
import { fleetPlugin } from './compat/index.ts'
import { health } from './health/index.ts'
import type { Peer } from './identity.ts'

/** @internal */
export const agentCheckOptions = {
  /** Port for HAProxy's `agent-port`. Without a port there is no agent. */
  port: int(0, 65535, 'a TCP port').env('FLEET_AGENT_PORT'),
  /** Address to listen on. A response contains only a state and a weight. */
  host: text.default('0.0.0.0'),
  /** Event-loop utilization up to which an instance reports its full weight. */
  comfortable: number(0, 0.99).default(0.6),
  /** Multiple of the peers' median p95 above which an instance reports less weight. */
  slowFactor: number(1, 100).default(2),
  /** Longest time from the response until the connection is closed. */
  timeoutMs: int(1, 60_000, 'milliseconds').default(1_000),
  /** Open connections. Above that the oldest, which already has its response, is closed. */
  maxConnections: int(1, 65_535, 'connections').default(64),
}
export type AgentCheckOptions = OptionsOf<typeof agentCheckOptions>

/** Differences of p95 below this are noise, ms. */
const noticeableMs = 10
/** Smallest share, because an instance without requests could not show that it has recovered. */
const leastShare = 0.05

/**
 * The weight of an instance under its current load: 5 to 100 % of its configured weight (`FLEET_WEIGHT`, 0 to 1000). The
 * share is the smaller of the event loop's spare capacity, which covers CPU, and the speed relative to the peers, which
 * covers everything else, such as a slow disk or a cold cache. It is multiplied by the share of successful requests,
 * because fast failures would look like low load. If all instances fail alike, their relative weights do not change.
 *
 * @param errorRate share of this instance's requests that failed, 0 to 1
 */
export function weightFromLoad(
  self: Peer,
  peers: readonly Peer[],
  errorRate: number,
  { comfortable, slowFactor }: Pick<Resolved<typeof agentCheckOptions>, 'comfortable' | 'slowFactor'>,
): number {
  if (self.weight === 0) return 0

  const spare = 1 - Math.max(0, self.eventLoopUtilization - comfortable) / (1 - comfortable)
  const others = peers.filter((peer) => peer.id !== self.id && peer.state === 'serving' && peer.rps > 0)
  const sorted = others.map((peer) => Math.max(peer.p95, noticeableMs)).sort((a, b) => a - b)
  const median = sorted[Math.floor(sorted.length / 2)]
  const allowed = median === undefined ? Number.POSITIVE_INFINITY : median * slowFactor
  const speed = self.p95 > allowed ? allowed / self.p95 : 1
  const share = Math.max(leastShare, Math.min(spare, speed) * (1 - errorRate))
  return Math.max(1, Math.round(self.weight * share))
}

/**
 * The line that HAProxy reads. The weight is a percentage of the one in HAProxy's configuration. `drain` applies until
 * `ready` reverts it, an HTTP check overrides `up`, and a line without newline is ignored, so every response contains
 * all of them (HAProxy configuration manual, "agent-check").
 */
export function agentLine(ready: boolean, weight: number): string {
  return ready ? `up ready ${weight}%\n` : 'drain\n'
}

const plugin: FastifyPluginAsync<AgentCheckOptions> = async (app, given) => {
  await ensure(app, health)
  const options = resolveOptions('agentCheck', agentCheckOptions, given)
  app.fleet.configure('agentCheck', options)
  if (options.port === undefined) return

  const connections = new RecentConnections(options.maxConnections)
  const server: Server = createServer((socket) => {
    connections.add(socket)
    const { fleet, load } = app
    const weight = weightFromLoad(fleet.self(), fleet.peers(), load.read().errorRate, options)
    endConnection(socket, agentLine(fleet.ready, weight), options.timeoutMs)
  })
  guardConnections(server)
  app.addHook('onListen', async () => {
    await once(server.listen({ port: options.port, host: options.host }), 'listening')
    server.unref()
    const address = server.address()
    if (typeof address === 'object' && address) app.log.info({ agentPort: address.port }, 'agent check listening')
  })
  app.addHook('onClose', async () => {
    server.close()
    connections.destroy()
  })
}

/** Reports drains and load-dependent weights to HAProxy's agent check. */
export const agentCheck: FastifyPluginAsync<AgentCheckOptions> = fleetPlugin('agentCheck', plugin)
export default agentCheck
