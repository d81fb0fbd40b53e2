import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ResponseCounters } from '../../../src/state/history/counters.ts'
import { Departures, maxDeparted } from '../../../src/state/history/departed.ts'
import type { StoredEvent } from '../../../src/state/history/events.ts'
import { MemoryHistoryStore } from '../../../src/state/history/memory-store.ts'
import { maxWaiting, Outbox } from '../../../src/state/history/outbox.ts'
import { pointsOf, routesOf } from '../../../src/state/history/points.ts'
import { maxRoutes, minuteMs, stepMs } from '../../../src/state/history/store.ts'
import { back, counts } from './contract.ts'

const request = (url: string, method = 'GET', config = {}) => ({ method, routeOptions: { url, config } })

describe('the counters of an instance', () => {
  test('count responses by route, method and class, and start again when they are taken', () => {
    const counters = new ResponseCounters()
    const config = {}
    counters.observe(request('/a', 'GET', config), 200, 10)
    counters.observe(request('/a', 'GET', config), 404, 10)
    counters.observe(request('/a', 'POST', config), 503, 0)
    counters.observe({ method: 'GET', routeOptions: { config: {} } }, 404, 70_000)
    assert.deepEqual(counters.takeStep(), counts({ r: 4, c: 2, s: 1, 0: 1, 33: 2, 96: 1 }))
    assert.equal(counters.takeStep().size, 0)
    const routes = counters.takeRoutes()
    assert.deepEqual([...routes.keys()], ['GET /a', 'POST /a', 'GET unknown'])
    assert.deepEqual(routes.get('GET /a'), counts({ r: 2, c: 1, 33: 2 }))
    assert.equal(counters.takeRoutes().size, 0)
  })

  test('name the busiest routes and add up the others', () => {
    const counters = new ResponseCounters()
    for (let i = 0; i < maxRoutes + 3; i++) {
      const route = request(`/${i}`)
      for (let n = 0; n < (i < 3 ? 1 : 2); n++) counters.observe(route, 200, 1)
    }
    const routes = counters.takeRoutes()
    assert.equal(routes.size, maxRoutes + 1)
    assert.deepEqual(routes.get(''), counts({ m: 3, r: 3, 17: 3 }))
    assert.ok(!routes.has('GET /0'))
  })

  test('count routes of one name together', () => {
    const counters = new ResponseCounters()
    for (let i = 0; i < 2; i++) counters.observe(request('/same', 'GET', {}), 200, 1)
    assert.deepEqual(counters.takeRoutes().get('GET /same')?.get('r'), 2)
  })
})

describe('what readers get', () => {
  const write = { process: 'a 1', back, routes: new Map() }

  test('is a point for each complete step with data, with the percentiles of all instances', async () => {
    const store = new MemoryHistoryStore()
    const now = Date.now()
    const start = now - (now % stepMs) - 2 * stepMs
    // One instance with 90 requests of up to 10 ms, and another one with 10 of up to a second.
    await store.add({ ...write, start, counts: counts({ n: 1, r: 90, c: 5, 33: 90, u: 200, k: 1_000 }) })
    await store.add({ ...write, start, counts: counts({ n: 1, r: 10, s: 3, x: 2, 66: 10, u: 600, k: 3_000 }) })
    await store.add({ ...write, start: start + stepMs, counts: counts({ n: 1 }) })
    await store.add({ ...write, start: start + 2 * stepMs, counts: counts({ n: 1 }) })
    const late = start + 2 * stepMs + 4_000
    const { points } = await pointsOf(store, late, '15m', 0)
    assert.deepEqual(points, [
      {
        ...{ at: start, instances: 2, requests: 100, clientErrors: 5, serverErrors: 3, shed: 2 },
        ...{ p50: 10.1, p95: 1_014, p99: 1_014, loop: 0.4, memory: 4_096_000 },
      },
      {
        ...{ at: start + stepMs, instances: 1, requests: 0, clientErrors: 0, serverErrors: 0, shed: 0 },
        ...{ p50: null, p95: null, p99: null, loop: 0, memory: 0 },
      },
    ])
    const early = await pointsOf(store, late - 1, '1h', 0)
    assert.deepEqual(
      [early.stepMs, early.points.map(({ at }) => at)],
      [stepMs, [start]],
      'the second may be incomplete',
    )
    assert.deepEqual(
      (await pointsOf(store, late, '15m', start)).points.map(({ at }) => at),
      [start + stepMs],
    )
    assert.deepEqual((await pointsOf(store, late, '15m', start + stepMs)).points, [])
  })

  test('is a point for each minute of a day', async () => {
    const store = new MemoryHistoryStore()
    const now = Date.now()
    const minute = now - (now % minuteMs) - 2 * minuteMs
    for (let i = 0; i < 6; i++)
      await store.add({ ...write, start: minute + i * stepMs, counts: counts({ n: 1, r: 1, u: 500, k: 2_000 }) })
    await store.add({ ...write, start: minute, counts: counts({ n: 1, u: 500, k: 2_000 }) })
    const { stepMs: step, points } = await pointsOf(store, now, '24h', 0)
    assert.equal(step, minuteMs)
    assert.partialDeepStrictEqual(points, [{ at: minute, instances: 2, requests: 6, loop: 0.5, memory: 4_096_000 }])
  })

  test('is the busiest routes, and how many are missing', async () => {
    const store = new MemoryHistoryStore()
    const now = Date.now()
    const start = now - (now % minuteMs)
    const routes = new Map([
      ['GET /a', counts({ r: 60, c: 1, 33: 60 })],
      ['POST /b c', counts({ r: 120, s: 2, 33: 120 })],
      ['', counts({ r: 5, m: 4 })],
    ])
    for (const at of [start, start - minuteMs])
      await store.add({ ...write, start: at, counts: counts({ n: 1 }), routes })
    const report = await routesOf(store, start + minuteMs)
    assert.deepEqual(report, {
      ...{ windowMs: 900_000, omitted: 4 },
      routes: [
        {
          ...{ method: 'POST', route: '/b c', requests: 240, clientErrors: 0, serverErrors: 4, rps: 2 },
          ...{ p50: 10.1, p95: 10.1, p99: 10.1 },
        },
        {
          ...{ method: 'GET', route: '/a', requests: 120, clientErrors: 2, serverErrors: 0, rps: 1 },
          ...{ p50: 10.1, p95: 10.1, p99: 10.1 },
        },
      ],
    })
  })
})

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
    const many = Array.from({ length: maxDeparted + 5 }, (_, i) =>
      event('stopped', now - 1_000 + i, { instance: `i${i}` }),
    )
    const gone = await departed(...many)
    assert.deepEqual([gone.length, gone[0]?.id, gone.at(-1)?.id], [maxDeparted, `i${maxDeparted + 4}`, 'i5'])
  })
})

test('keeps a bounded number of events while the store is unavailable, with their times', async () => {
  let time = 0
  const store = new MemoryHistoryStore()
  const record = store.record.bind(store)
  let isDown = true
  store.record = async (event, options) => {
    if (isDown) throw new Error('unavailable')
    return record(event, options)
  }
  const outbox = new Outbox(store, () => ++time)
  for (let i = 1; i <= maxWaiting + 20; i++) outbox.add({ kind: 'deploy-step', text: `${i}` })
  await outbox.send()
  isDown = false
  await outbox.send()
  const events = await store.events({ limit: 500 })
  assert.equal(events.length, maxWaiting)
  assert.deepEqual([events[0]?.text, events[0]?.at, events.at(-1)?.text], ['120', 120, '21'])
  outbox.add({ kind: 'deploy-step', text: 'last' })
  await outbox.send()
  assert.equal((await store.events({ limit: 1 }))[0]?.text, 'last')
})
