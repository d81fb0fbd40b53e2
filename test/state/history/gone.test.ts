import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { LostPeers } from '../../../src/state/history/gone.ts'
import { MemoryHistoryStore } from '../../../src/state/history/memory-store.ts'
import { processOf } from '../../../src/state/history/own-events.ts'
import { peer } from '../registry/fake-peers.ts'

test('peers that vanish are recorded once, unless they have said why they end', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const now = Date.now()
  const store = new MemoryHistoryStore()
  const [first, second] = [1, 2].map(() => new LostPeers(store, () => now)) as [LostPeers, LostPeers]
  const gone = (id: string, state: 'serving' | 'draining' = 'serving') => ({
    ...peer(id),
    ...{ state, startedAt: new Date(now - 60_000).toISOString(), lastSeen: new Date(now - 4_000).toISOString() },
  })
  for (const lost of [first, second]) {
    lost.vanished(gone('killed'), true)
    lost.vanished(gone('polite'), true)
    lost.vanished(gone('drained', 'draining'), true)
    lost.vanished(gone('old'), false)
  }
  t.mock.timers.tick(999)
  await turn()
  assert.deepEqual(await store.events({ limit: 10 }), [], 'a peer that leaves may still say so')
  const stopped = { kind: 'stopped', instance: 'polite', text: 'SIGTERM' } as const
  await store.record(stopped, { process: processOf(gone('polite')) })
  t.mock.timers.tick(2_001)
  await turn()
  await turn()
  const events = (await store.events({ limit: 10 })).reverse()
  assert.deepEqual(
    events.map(({ kind, instance, text }) => `${kind} ${instance}: ${text}`),
    [
      'stopped polite: SIGTERM',
      'lost killed: last seen 4 s before',
      'stopped drained: was draining, last seen 4 s before',
      'lost old: gone before the present instances started',
    ],
  )
  assert.partialDeepStrictEqual(events[1]?.entry, { host: 'host-killed', state: 'serving', lastSeen: now - 4_000 })
  first.vanished(gone('late'), true)
  first.close()
  t.mock.timers.tick(5_000)
  await turn()
  assert.equal((await store.events({ limit: 10 })).length, 4)
})
