import type { PoolState, Pools } from './pools.ts'
import type { Router } from './router.ts'

export type ServerState = 'ok' | 'degraded' | 'down'

interface PoolUse {
  readonly used: number
  readonly waiting: number
  readonly max: number
}

/** The servers of the database, for operators. `pool` is `null` if the pools are not known. */
export interface DatabaseState {
  readonly primary: { readonly state: ServerState; readonly pool: PoolUse | null }
  readonly replicas: readonly {
    readonly name: string
    readonly state: ServerState
    readonly lagMs: number
    /** Share of this instance's reads since its start that the replica served, 0 to 1. */
    readonly share: number
    readonly pool: PoolUse | null
  }[]
}

/** @param status that of the check `database`, which queries the primary */
export function databaseState(
  status: 'up' | 'degraded' | 'down' | 'pending' | undefined,
  router: Router | undefined,
  pools: Pools | undefined,
): DatabaseState {
  const states = new Map(pools?.states.map((state) => [state.name, state]))
  const pool = (name: string): PoolUse | null => useOf(states.get(name))
  const reads = router?.reads
  const total = reads ? reads.replicas.reduce((sum, count) => sum + count, reads.primary) : 0
  return {
    primary: { state: status === 'up' ? 'ok' : status === 'degraded' ? 'degraded' : 'down', pool: pool('primary') },
    replicas: (router?.set.replicas ?? []).map(({ index, healthy, lagMs }) => {
      const name = `replica_${index + 1}`
      const served = reads?.replicas[index] ?? 0
      const share = total === 0 ? 0 : Math.round((served / total) * 1_000) / 1_000
      return { name, state: healthy ? 'ok' : 'down', lagMs, share, pool: pool(name) }
    }),
  }
}

const useOf = (state: PoolState | undefined): PoolUse | null =>
  state ? { used: state.busy, waiting: state.waiting, max: state.max } : null
