import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Departures } from '../../../src/state/history/departed.ts'
import type { StoredEvent } from '../../../src/state/history/events.ts'
import { MemoryHistoryStore } from '../../../src/state/history/memory-store.ts'
import type { EventQuery } from '../../../src/state/history/store.ts'

describe('instances that are gone', () => {
  const now = 1_000_000_000
  const entry = {
    ...{ host: 'h', port: 1, zone: 'z', state: 'serving', startedAt: 's1' },
    lastSeen: now,
  }
  const event = (kind: StoredEvent['kind'], at: number, more: object = {}): StoredEvent => ({
    ...{ id: `${at}-0`, kind, at, text: kind, instance: 'a', version: '1', pool: 'p' },
    ...more,
  })
  const departed = async (...events: StoredEvent[]) => {
    const departures = new Departures(new MemoryHistoryStore())
    for (const each of events) departures.apply(each)
    return departures.list(now)
  }

  test('are those that have not come back', async () => {
    const [gone, ...others] = await departed(event('started', now - 5), event('lost', now - 4, { entry }))
    assert.deepEqual(others, [])
    assert.deepEqual(gone, {
      ...{ id: 'a', host: 'h', port: 1, version: '1', pool: 'p', zone: 'z', reason: 'lost', detail: 'lost' },
      ...{ state: 'serving', lastSeen: now, at: now - 4 },
    })
    for (const kind of ['started', 'ready'] as const)
      assert.deepEqual(await departed(event('lost', now - 4, { entry }), event(kind, now - 3)), [])
    assert.deepEqual(await departed(event('lost', now - 86_400_001, { entry })), [], 'a day later')
  })

  test('have the exit reason, in any order of the reports', async () => {
    const killed = event('killed', now - 3, { version: undefined, pool: undefined, text: 'SIGKILL' })
    for (const events of [
      [event('lost', now - 4, { entry }), killed],
      [killed, event('lost', now - 2, { entry })],
    ]) {
      const [gone, ...others] = await departed(...events)
      assert.deepEqual(others, [])
      assert.partialDeepStrictEqual(gone, { reason: 'killed', detail: 'SIGKILL', host: 'h', version: '1', at: now - 3 })
    }
  })

  test('tell the processes of one id apart', async () => {
    const second = event('lost', now - 2, { entry: { ...entry, startedAt: 's2', host: 'h2' } })
    const [gone] = await departed(event('stopped', now - 4, { entry }), second)
    assert.partialDeepStrictEqual(gone, { reason: 'lost', host: 'h2', at: now - 2 })
  })

  test('are bounded', async () => {
    const many = Array.from({ length: 205 }, (_, i) => event('stopped', now - 1_000 + i, { instance: `i${i}` }))
    const gone = await departed(...many)
    assert.deepEqual([gone.length, gone[0]?.id, gone.at(-1)?.id], [200, 'i204', 'i5'])
  })

  test('of two reports within a minute are one process, if one of them does not say which', async () => {
    for (const [ms, host] of [
      [59_999, 'h'],
      [60_000, null],
    ] as const) {
      const [gone, ...others] = await departed(event('lost', now - ms, { entry }), event('killed', now))
      assert.deepEqual([gone?.host, gone?.reason, others], [host, 'killed', []], `${ms} ms`)
    }
    const named = [event('killed', now - 3, { entry }), event('lost', now - 2, { entry, version: '2' })]
    assert.partialDeepStrictEqual((await departed(...named))[0], { reason: 'killed', at: now - 3, version: '2' })
  })

  test('of which nothing else is known have no place, version and state', async () => {
    assert.deepEqual(await departed(event('killed', now - 1, { version: undefined, pool: undefined })), [
      {
        ...{ id: 'a', host: null, port: null, version: null, pool: null, zone: null, reason: 'killed' },
        ...{ detail: 'killed', state: null, lastSeen: null, at: now - 1 },
      },
    ])
  })

  test('are listed by their last end, newest first', async () => {
    const ended = (instance: string, at: number) => event('stopped', at, { instance })
    const gone = await departed(ended('a', now - 200_000), ended('b', now - 100_000), ended('a', now))
    assert.deepEqual(
      gone.map(({ id }) => id),
      ['a', 'b'],
    )
  })

  test('are listed for a day, whatever else happens', async () => {
    const others = [event('draining', now), event('deploy-step', now, { instance: undefined })]
    const ended = event('lost', now - 86_399_999, { entry })
    assert.equal((await departed(ended, ...others)).length, 1)
    assert.equal((await departed(event('lost', now - 86_400_000, { entry }), ...others)).length, 0)
  })

  test('are read once per second, from the last event that was read', async (t) => {
    let passed = 10_000
    t.mock.method(performance, 'now', () => passed)
    const store = new MemoryHistoryStore()
    const queries: EventQuery[] = []
    let found: StoredEvent[][] = []
    store.events = async (query) => {
      queries.push(query)
      return found.shift() ?? []
    }
    const ended = (i: number) => event('stopped', now - 1_000 + i, { instance: `i${i}` })
    const departures = new Departures(store)
    const count = async () => (await departures.list(now)).length
    found = [[ended(1), ended(0)]]
    assert.deepEqual(await Promise.all([count(), count()]), [2, 2])
    assert.deepEqual(queries.splice(0), [{ limit: 2_000 }])
    found = [
      Array.from({ length: 500 }, (_, i) => event('started', now + i, { instance: `s${i}` })).reverse(),
      [ended(2)],
    ]
    passed += 1_000
    assert.deepEqual([await count(), queries], [2, []])
    passed += 1
    assert.equal(await count(), 3)
    assert.deepEqual(queries.splice(0), [
      { after: `${now - 999}-0`, limit: 500 },
      { after: `${now + 499}-0`, limit: 500 },
    ])
    found = [[ended(3)]]
    departures.refresh()
    assert.deepEqual([await count(), queries.length], [4, 1])
  })

  test('stay while they cannot be read', async () => {
    const store = new MemoryHistoryStore()
    const departures = new Departures(store)
    departures.apply(event('lost', now - 4, { entry }))
    let reads = 0
    store.events = async () => {
      reads++
      throw new Error('unavailable')
    }
    for (let i = 1; i <= 2; i++) assert.deepEqual([(await departures.list(now)).length, reads], [1, i])
  })
})
