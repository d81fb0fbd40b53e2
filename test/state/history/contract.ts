import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { NewEvent } from '../../../src/state/history/events.ts'
import {
  type Counts,
  type HistoryStore,
  maxLimited,
  maxRoutes,
  minuteMs,
  routesMs,
  startOf,
  stepMs,
} from '../../../src/state/history/store.ts'

export const counts = (given: Record<string, number>): Counts => new Map(Object.entries(given))
export const back: NewEvent = { kind: 'ready', text: 'back', instance: 'a' }
const entry = {
  ...{ host: 'h', port: 3000, zone: null, state: 'serving', startedAt: '2026-01-01T00:00:00Z' },
  lastSeen: 1_000,
}

/** The contract of every store. `open` returns a store of a fleet of its own. */
export function contract(engine: string, open: () => HistoryStore): void {
  describe(`the history in ${engine}`, () => {
    const write = async (store: HistoryStore, start: number, given: object = {}): Promise<void> => {
      const all = { start, counts: counts({ n: 1, r: 2, 12: 2 }), routes: new Map(), process: 'a 1', back, ...given }
      await store.add(all)
    }
    /** The start of a step in the middle of the last full minute. */
    const recent = async (store: HistoryStore): Promise<number> => {
      const now = await store.time()
      return startOf(now, minuteMs) - minuteMs + 2 * stepMs
    }

    test('adds the counts of instances by step and minute, with the largest number of instances in a step', async () => {
      const store = open()
      const start = await recent(store)
      for (const at of [start, start, start + stepMs]) await write(store, at)
      const minute = start - 2 * stepMs
      assert.deepEqual(await store.counts('step', [start - stepMs, start, start + stepMs]), [
        undefined,
        counts({ n: 2, r: 4, 12: 4 }),
        counts({ n: 1, r: 2, 12: 2 }),
      ])
      assert.deepEqual(
        (await store.counts('minute', [minute - minuteMs, minute])).map((each) => each && Object.fromEntries(each)),
        [undefined, { n: 3, r: 6, 12: 6, i: 2 }],
      )
    })

    test('adds the counts of a route, and those of routes above the limit under one name', async () => {
      const store = open()
      const start = startOf(await store.time(), routesMs) - routesMs
      const last = start + routesMs - stepMs
      const routes = (names: string[], given: Record<string, number>) =>
        new Map(names.map((name) => [name, counts(given)]))
      const busy = Array.from({ length: maxRoutes }, (_, i) => `GET /${i}`)
      await write(store, start, { routes: routes(busy, { r: 1, 3: 1 }) })
      await write(store, last, { routes: routes(['GET /0', 'POST /new', 'POST /newer'], { r: 2, s: 1, 3: 1, 4: 1 }) })
      await write(store, last, { routes: routes([''], { r: 5, m: 7 }) })
      await write(store, last, { routes: routes([''], { r: 1, m: 3 }) })
      await write(store, last + stepMs, { routes: routes(['GET /next'], { r: 1 }) })
      const [found, next] = await store.routes([start, start + routesMs])
      assert.ok(found)
      assert.deepEqual([...(next?.keys() ?? [])], ['GET /next'])
      assert.equal(found.size, maxRoutes + 1)
      assert.deepEqual(Object.fromEntries(found.get('GET /0') ?? []), { r: 3, s: 1, 3: 2, 4: 1 })
      assert.deepEqual(Object.fromEntries(found.get('') ?? []), { r: 10, s: 2, 3: 2, 4: 2, m: 7 })
    })

    test('returns events newest first, before or after one of them', async () => {
      const store = open()
      const at = (await store.time()) - 5_000
      await store.record({ kind: 'started', text: 'a', instance: 'a', version: '1', pool: 'p', at })
      for (const text of ['b', 'c', 'd']) await store.record({ kind: 'deploy-step', text })
      await store.record({ kind: 'lost', text: 'e', instance: 'a', entry })
      const all = await store.events({ limit: 10 })
      assert.deepEqual(
        all.map(({ text }) => text),
        ['e', 'd', 'c', 'b', 'a'],
      )
      const [last, , middle, , first] = all
      assert.partialDeepStrictEqual(first, { kind: 'started', instance: 'a', version: '1', pool: 'p', at })
      assert.deepEqual(last?.entry, entry)
      assert.equal(last?.at, Number.parseInt(last?.id ?? '', 10))
      const texts = async (query: object): Promise<string[]> =>
        (await store.events({ limit: 10, ...query })).map(({ text }) => text)
      assert.deepEqual(await texts({ limit: 2 }), ['e', 'd'])
      assert.deepEqual(await texts({ before: middle?.id }), ['b', 'a'])
      assert.deepEqual(await texts({ after: middle?.id }), ['e', 'd'])
      assert.deepEqual(await texts({ after: first?.id, limit: 2 }), ['c', 'b'], 'the oldest of more')
    })

    test('records the end of a process once, and that it is back', async () => {
      const store = open()
      const lost: NewEvent = { kind: 'lost', text: 'lost', instance: 'a', entry }
      const results = await Promise.all([1, 2, 3].map(() => store.record(lost, { process: 'a 1' })))
      assert.deepEqual(results.sort(), [false, false, true])
      assert.equal(await store.record({ ...lost, kind: 'stopped' }, { process: 'a 1' }), false)
      assert.deepEqual(await store.unrecorded(['a 0', 'a 1', 'a 2']), ['a 0', 'a 2'])
      const start = await recent(store)
      for (const process of ['a 2', 'a 1', 'a 1']) await write(store, start, { process })
      assert.deepEqual(
        (await store.events({ limit: 10 })).map(({ text }) => text),
        ['back', 'lost'],
      )
      assert.equal(await store.record(lost, { process: 'a 1' }), true, 'its next end')
    })

    test('records a limited number of events of one name', async () => {
      const store = open()
      const event: NewEvent = { kind: 'check-failed', text: 'redis' }
      for (let i = 0; i < maxLimited + 5; i++)
        assert.equal(await store.record(event, { limit: 'check-failed redis' }), i < maxLimited)
      assert.equal(await store.record(event, { limit: 'check-failed disk' }), true)
      assert.equal((await store.events({ limit: 500 })).length, maxLimited + 1)
    })
  })
}
