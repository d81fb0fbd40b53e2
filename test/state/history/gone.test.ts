import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
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

/** `lost` with a store, and peers that vanish; `random` is where in the spread of 2 s it records them. */
function open(t: TestContext, random: number) {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  t.mock.method(Math, 'random', () => random)
  const now = Date.now()
  const store = new MemoryHistoryStore()
  const lost = new LostPeers(store, () => now)
  const gone = (id: string, ms = 4_000) =>
    lost.vanished({ ...peer(id), lastSeen: new Date(now - ms).toISOString() }, true)
  const pass = async (ms: number): Promise<string[]> => {
    t.mock.timers.tick(ms)
    await turn()
    return (await store.events({ limit: 1_000 })).map(({ text }) => text)
  }
  return { store, lost, gone, pass }
}

for (const [random, afterMs] of [
  [0, 1_000],
  [0.5, 2_000],
])
  test(`each instance records lost peers at its own time, such as after ${afterMs} ms`, async (t) => {
    const { gone, pass } = open(t, random as number)
    gone('a')
    assert.equal((await pass((afterMs as number) - 1)).length, 0)
    gone('b')
    assert.equal((await pass(1)).length, 2, 'with those that vanished meanwhile')
    gone('c')
    assert.equal((await pass(afterMs as number)).length, 3)
  })

test('a peer whose clock is ahead was last seen just now', async (t) => {
  const { gone, pass } = open(t, 0)
  gone('a', -2_000)
  assert.deepEqual(await pass(1_000), ['last seen 0 s before'])
})

test('at most 500 lost peers are recorded together', async (t) => {
  const { gone, pass } = open(t, 0)
  for (let i = 0; i < 502; i++) gone(`p${i}`)
  assert.equal((await pass(1_000)).length, 500)
})

test('lost peers are not recorded while Redis is unavailable, and later ones are', async (t) => {
  const { store, gone, pass } = open(t, 0)
  const unrecorded = store.unrecorded.bind(store)
  store.unrecorded = async () => {
    throw new Error('unavailable')
  }
  gone('a')
  await pass(1_000)
  store.unrecorded = unrecorded
  assert.equal((await pass(5_000)).length, 0)
  gone('b')
  assert.equal((await pass(1_000)).length, 1)
})
