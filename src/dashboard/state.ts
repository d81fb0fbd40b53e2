import type { Peer } from '../instance/identity.ts'
import type { Departure } from '../state/history/departed.ts'

/** The columns of an instance in `/state`. Names are sent once, because a fleet may have a thousand instances. */
const columns = {
  id: ({ id }) => id,
  host: ({ host }) => host,
  port: ({ port }) => port ?? null,
  pid: ({ pid }) => pid,
  version: ({ version }) => version,
  color: ({ color }) => color,
  pool: ({ pool }) => pool,
  region: ({ region }) => region ?? null,
  zone: ({ zone }) => zone ?? null,
  weight: ({ weight }) => weight,
  state: ({ state }) => state,
  startedAt: ({ startedAt }) => timeOf(startedAt),
  lastSeen: ({ lastSeen }) => timeOf(lastSeen),
  rps: ({ rps }) => rps,
  errorRate: ({ errorRate }) => errorRate,
  p95: ({ p95 }) => p95,
  loop: ({ eventLoopUtilization }) => eventLoopUtilization,
  memory: ({ memory }) => memory,
  failing: ({ failing, degraded }) => [...failing, ...degraded],
} as const satisfies Record<string, (peer: Peer) => unknown>

const timeOf = (iso: string): number | null => {
  const time = Date.parse(iso)
  return Number.isNaN(time) ? null : time
}

export const fields = Object.keys(columns)
export const rowOf = (peer: Peer): unknown[] => Object.values(columns).map((read) => read(peer))

/**
 * The live instances, and those that are gone for good. An entry outlives its process by a lease, so one that stopped or was
 * killed is gone at once. One that was lost may have been suspended, and is back if it has an entry.
 */
export function presence(
  peers: readonly Peer[],
  departed: readonly Departure[],
): { readonly live: readonly Peer[]; readonly gone: readonly Departure[] } {
  const ended = new Map(departed.filter(({ reason }) => reason !== 'lost').map(({ id, at }) => [id, at]))
  const live = peers.filter(({ id, startedAt }) => !((ended.get(id) ?? 0) > Date.parse(startedAt)))
  const ids = new Set(live.map(({ id }) => id))
  return { live, gone: departed.filter(({ id }) => !ids.has(id)) }
}
