import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { RedisOptions } from '../../../src/state/redis.ts'
import { until } from '../../helpers/until.ts'
import { replicated, startCluster, startSentinel } from '../topologies.ts'
import { startFleet } from './fleet.ts'
import { prepare, type Row } from './rows.ts'
import { promises } from './table.ts'

const promised = promises()

interface Place {
  readonly where: RedisOptions
  readonly replicated: () => Promise<unknown>
  /** Kills a primary. */
  readonly kill: () => Promise<unknown>
}

const places: Record<string, () => Promise<Place>> = {
  Sentinel: async () => {
    const { sentinels, primary } = await startSentinel()
    return { where: { sentinels }, replicated: () => replicated(primary), kill: () => primary.kill('SIGKILL') }
  },
  Cluster: async () => {
    const { nodes, servers } = await startCluster()
    return {
      where: { cluster: nodes },
      replicated: () => Promise.all(servers.map(replicated)),
      kill: async () => servers[0]?.kill('SIGKILL'),
    }
  },
}

for (const [place, open] of Object.entries(places))
  describe(`failing over: ${place}`, () => {
    let rows: Map<string, Row>
    const seen = new Map<string, Set<string>>()
    let stop: () => void
    before(async () => {
      const { where, replicated, kill } = await open()
      const fleet = await startFleet(where)
      ;({ rows, end: stop } = await prepare(fleet))
      await replicated()
      await kill()
      const [{ redis }] = fleet
      let over = false
      const looks = [...rows].map(async ([name, { look }]) => {
        const outcomes = new Set<string>()
        seen.set(name, outcomes)
        const wanted = promised.get(name)?.['failing over'].split(', then ').at(-1)
        const recovered = async (): Promise<boolean> => {
          const before = over
          const outcome = await look().catch(String)
          outcomes.add(outcome)
          return before && outcome === wanted
        }
        await until(recovered, { timeoutMs: 40_000, what: name }).catch(() => {})
      })
      // Keys of all slots, so that some of them were on the server that is dead.
      const everywhere = Array.from({ length: 32 }, (_, n) => `slot ${n}`)
      await until(() => Promise.all(everywhere.map((key) => redis?.set(key, 1))), {
        timeoutMs: 30_000,
        what: 'failover',
      })
      over = true
      await Promise.all(looks)
    })
    after(() => stop())

    for (const [name, { 'failing over': cell }] of promised)
      test(`${name}: ${cell}`, () => {
        const outcomes = [...(seen.get(name) ?? [])]
        const [meanwhile, then = meanwhile] = cell.split(', then ')
        assert.deepEqual(
          outcomes.filter((outcome) => outcome !== then && !meanwhile?.split(' or ').includes(outcome)),
          [],
        )
        assert.ok(outcomes.includes(then as string))
      })
  })
